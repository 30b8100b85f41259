import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.spec.MGF1ParameterSpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import javax.crypto.Cipher;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import javax.crypto.spec.SecretKeySpec;

/** A cardholder's device, with what Java has of its own: a line is answered with a line. */
public class Device {
    private static final Base64.Decoder FROM = Base64.getDecoder();
    private static final Base64.Encoder TO = Base64.getEncoder();

    public static void main(String[] arguments) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2048);
        KeyPair pair = generator.generateKeyPair();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("key")) {
                System.out.println(TO.encodeToString(pair.getPublic().getEncoded()));
                continue;
            }
            Cipher rsa = Cipher.getInstance("RSA/ECB/OAEPPadding");
            rsa.init(Cipher.DECRYPT_MODE, pair.getPrivate(), new OAEPParameterSpec(
                "SHA-256", "MGF1", MGF1ParameterSpec.SHA256, PSource.PSpecified.DEFAULT));
            byte[] tzpk = rsa.doFinal(FROM.decode(words[1]));
            byte[] spelledOut = Arrays.copyOf(tzpk, 24);
            System.arraycopy(tzpk, 0, spelledOut, 16, 8);
            Cipher tdes = Cipher.getInstance("DESede/ECB/NoPadding");
            SecretKeySpec key = new SecretKeySpec(spelledOut, "DESede");
            if (words[0].equals("read")) {
                tdes.init(Cipher.DECRYPT_MODE, key);
                byte[] block = tdes.doFinal(FROM.decode(words[2]));
                System.out.println(HexFormat.of().formatHex(block));
            } else {
                tdes.init(Cipher.ENCRYPT_MODE, key);
                byte[] block = tdes.doFinal(HexFormat.of().parseHex(words[2]));
                System.out.println(TO.encodeToString(block));
            }
        }
    }
}
