// A cardholder's device, with what Node.js has of its own: a line is answered with a line.
import { constants, createCipheriv, createDecipheriv, generateKeyPairSync, privateDecrypt }
  from "node:crypto";
import { createInterface } from "node:readline";

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const padding = constants.RSA_PKCS1_OAEP_PADDING;

function tdes(make, tzpk, data) {
  const cipher = make("des-ede3-ecb", Buffer.concat([tzpk, tzpk.subarray(0, 8)]), null);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, enciphered, text] = line.split(" ");
  if (verb === "key") {
    console.log(publicKey.export({ type: "spki", format: "der" }).toString("base64"));
    continue;
  }
  // Node.js uses this hash for MGF1 too.
  const options = { key: privateKey, padding, oaepHash: "sha256" };
  const tzpk = privateDecrypt(options, Buffer.from(enciphered, "base64"));
  if (verb === "read") {
    console.log(tdes(createDecipheriv, tzpk, Buffer.from(text, "base64")).toString("hex"));
  } else {
    console.log(tdes(createCipheriv, tzpk, Buffer.from(text, "hex")).toString("base64"));
  }
}
