"use strict";

/*
 * A PIN on its way to the vault, as an ISO 9564-1 format 1 block, and from it, as digits: in a
 * compact JWE (RFC 7516) with ECDH-ES (RFC 7518, 4.6) and A256GCM. The clear PIN is on this
 * device only; what the server's web tier passes on, it cannot open.
 */
const pinJwe = (() => {
  const CURVE = { name: "ECDH", namedCurve: "P-256" };
  const ENCRYPTION = "A256GCM";
  const KEY_BITS = 256;
  const BLOCK_NIBBLES = 16;
  const bytesOf = (text) => new TextEncoder().encode(text);

  const base64url = (bytes) =>
    btoa(String.fromCharCode(...bytes))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "");

  const bytesOfBase64url = (text) =>
    Uint8Array.from(
      atob(text.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0),
    );

  const uint32 = (number) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, number);
    return bytes;
  };

  const concat = (...parts) => {
    const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };

  const wipe = (...arrays) => arrays.forEach((bytes) => bytes.fill(0));

  /* 1 N P…P t…t, as 16 hexadecimal digits in ASCII; t is random. */
  const iso1 = (digits) => {
    const random = crypto.getRandomValues(new Uint8Array(BLOCK_NIBBLES));
    const nibbles = Uint8Array.from(random, (byte) => byte & 15);
    nibbles.set([1, digits.length, ...digits]);
    const block = nibbles.map((nibble) => "0123456789ABCDEF".charCodeAt(nibble));
    wipe(nibbles);
    return block;
  };

  /* RFC 7518, 4.6.2: one round of SHA-256, no apu, no apv. */
  const concatKdf = async (shared) => {
    const algorithm = bytesOf(ENCRYPTION);
    const input = concat(
      uint32(1), shared, uint32(algorithm.length), algorithm,
      uint32(0), uint32(0), uint32(KEY_BITS),
    );
    const key = new Uint8Array(await crypto.subtle.digest("SHA-256", input));
    wipe(input);
    return key;
  };

  const newKeys = () => crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);

  const publicOf = async (keys) => {
    const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", keys.publicKey);
    return { kty, crv, x, y };
  };

  /* The content key that our private key and the other side's public one, a JWK, agree on. */
  const agree = async (privateKey, { kty, crv, x, y }, use) => {
    const other = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, CURVE, false, []);
    const shared = new Uint8Array(
      await crypto.subtle.deriveBits({ name: "ECDH", public: other }, privateKey, KEY_BITS),
    );
    const bits = await concatKdf(shared);
    const key = await crypto.subtle.importKey("raw", bits, "AES-GCM", false, [use]);
    wipe(shared, bits);
    return key;
  };

  const gcm = (iv, header) => (
    { name: "AES-GCM", iv, additionalData: bytesOf(header), tagLength: 128 }
  );

  /* Encrypt *plaintext*, bytes, to *jwk*; the bytes are overwritten. */
  const encrypt = async (jwk, plaintext) => {
    const ephemeral = await newKeys();
    const key = await agree(ephemeral.privateKey, jwk, "encrypt");
    const epk = await publicOf(ephemeral);
    const { kid } = jwk;
    const header = base64url(
      bytesOf(JSON.stringify({ alg: "ECDH-ES", enc: ENCRYPTION, kid, epk })),
    );
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const sealed = new Uint8Array(await crypto.subtle.encrypt(gcm(iv, header), key, plaintext));
    wipe(plaintext);
    const [text, tag] = [sealed.subarray(0, -16), sealed.subarray(-16)];
    return [header, "", base64url(iv), base64url(text), base64url(tag)].join(".");
  };

  return {
    supported: () => Boolean(globalThis.isSecureContext && globalThis.crypto?.subtle),

    /*
     * The JWE of *digits*, an array of numbers that is overwritten, for one of the vault's grants
     * and its control token: the one we were told, the other we have ourselves.
     */
    async ofPin(digits, grantId, controlToken, jwk) {
      const block = iso1(digits);
      digits.fill(0);
      const names = JSON.stringify({ grantId, controlToken });
      const plaintext = concat(bytesOf(names.slice(0, -1) + ',"block":"'), block, bytesOf('"}'));
      wipe(block);
      return encrypt(jwk, plaintext);
    },

    /* A pair of keys for one answer, whose private key cannot leave the browser. */
    newKeys,

    /* The public key of *keys*, as a JWK. */
    publicOf,

    /* The digits in *jwe*, text; it must be for *keys* and this very grant. */
    async open(jwe, grantId, keys) {
      const [header, empty, iv, text, tag] = jwe.split(".");
      const { alg, enc, epk } = JSON.parse(new TextDecoder().decode(bytesOfBase64url(header)));
      if (alg !== "ECDH-ES" || enc !== ENCRYPTION || empty !== "") throw new Error("another JWE");
      const key = await agree(keys.privateKey, epk, "decrypt");
      const sealed = concat(bytesOfBase64url(text), bytesOfBase64url(tag));
      const plaintext = new Uint8Array(
        await crypto.subtle.decrypt(gcm(bytesOfBase64url(iv), header), key, sealed),
      );
      const members = JSON.parse(new TextDecoder().decode(plaintext));
      wipe(plaintext);
      const { digits } = members;
      if (members.grantId !== grantId || !/^[0-9]{4,12}$/.test(digits)) {
        throw new Error("of another grant");
      }
      return digits;
    },
  };
})();
