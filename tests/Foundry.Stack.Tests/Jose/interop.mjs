// What a stranger does with our tokens, with npm's jose and nothing of ours. Reads one JSON request from the environment, prints one JSON answer.
import { SignJWT, createRemoteJWKSet, importJWK, jwtVerify } from 'jose'

const asked = JSON.parse(process.env.ASKED)
const answers = {
  // A token, by the published keys.
  async verify({ token, jwks, issuer }) {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, createRemoteJWKSet(new URL(jwks)), {
        issuer, audience: 'foundry', typ: 'foundry-cap+jwt', algorithms: ['EdDSA'], requiredClaims: ['jti', 'exp', 'nbf', 'iat', 'sub'],
      })
      return { payload, header: protectedHeader }
    } catch (fault) {
      return { refused: fault.code }
    }
  },
  // A JWS over the claims, by a private key.
  async sign({ claims, header, d, x }) {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', d, x }, 'EdDSA')
    return { jwt: await new SignJWT(claims).setProtectedHeader(header).sign(key) }
  },
}
console.log(JSON.stringify(await answers[asked.what](asked)))
