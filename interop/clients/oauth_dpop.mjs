// A client over the network without the sidecar, on the `oauth4webapi` library: it finds the authorization server from
// the resource, trades a third-party issuer's JWT for a token bound to its key (RFC 7523, RFC 8693, RFC 9449), and calls
// a tool with a proof.
//
// Its credential is then exchanged for a token to show to a cloud, which `jose` checks as a cloud does.
//
//     oauth_dpop.mjs RESOURCE THIRD_PARTY_ISSUER CLIENT_ID CLOUD_AUDIENCE
import * as oauth from 'oauth4webapi';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { check, end } from './checks.mjs';

const [resource, thirdParty, clientId, cloud] = process.argv.slice(2);
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const url = new URL(resource);
const found = await oauth.processResourceDiscoveryResponse(url, await oauth.resourceDiscoveryRequest(url));
check('the resource names its authorization server', found.authorization_servers?.length > 0, found);
const issuer = new URL(found.authorization_servers[0]);
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }));
check('the server says that it binds tokens to keys', server.dpop_signing_alg_values_supported?.includes('ES256'), server);

const client = { client_id: clientId };
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));
const workload = async (claims = {}) => {
  const body = JSON.stringify({ sub: 'workload-7', aud: server.issuer, repository: 'acme/interop', ...claims });
  return (await (await fetch(`${thirdParty}/mint`, { method: 'POST', body })).json()).token;
};

// How the workload proves itself as a client (RFC 7523 §2.2): by the JWT that its platform gave it.
const vouchedFor = (assertion) => (_server, { client_id }, body) => {
  body.set('client_id', client_id);
  body.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
  body.set('client_assertion', assertion);
};

const token = async (grant, parameters, authentication = () => oauth.None()) => {
  const once = async () => {
    const sent = await oauth.genericTokenEndpointRequest(server, client, await authentication(), grant, { resource, ...parameters }, { DPoP });
    return oauth.processGenericTokenEndpointResponse(server, client, sent);
  };
  try {
    return await once();
  } catch (error) {
    // The server may ask for a nonce of its own; the library keeps it for the next proof.
    if (oauth.isDPoPNonceError(error)) return once();
    throw error;
  }
};
const refusal = (grant, parameters) => token(grant, parameters).then((answer) => answer, (error) => error);

const granted = await token(JWT_BEARER, { assertion: await workload() });
check('a workload’s JWT is traded for a token (RFC 7523)', granted.token_type === 'dpop', granted.token_type);
check('the token lives at most fifteen minutes', granted.expires_in <= 900, granted.expires_in);
const person = await workload({ sub: 'ada', azp: clientId, repository: undefined });
const exchanged = await token(
  TOKEN_EXCHANGE,
  { subject_token: person, subject_token_type: 'urn:ietf:params:oauth:token-type:jwt' },
  async () => vouchedFor(await workload()),
);
check('a person’s JWT is exchanged for a token to act with (RFC 8693)', exchanged.issued_token_type?.startsWith('urn:'), exchanged);
const claims = JSON.parse(atob(exchanged.access_token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
check('the token says who acts for whom', claims.sub.includes('ada') && claims.act?.sub?.endsWith(`/${clientId}`), claims);

const wrong = await refusal(JWT_BEARER, { assertion: await workload({ repository: 'evil/fork' }) });
check('a JWT with other claims is refused', wrong.error !== undefined, wrong);
const elsewhere = await refusal(JWT_BEARER, { assertion: await workload({ aud: 'https://elsewhere.example' }) });
check('a JWT for another audience is refused', elsewhere.error !== undefined, elsewhere);

const own = { subject_token: granted.access_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token' };
const outbound = (audience) => async () => {
  const body = new URLSearchParams({ ...own, audience, requested_token_type: 'urn:ietf:params:oauth:token-type:jwt' });
  const sent = await oauth.genericTokenEndpointRequest(server, client, vouchedFor(await workload()), TOKEN_EXCHANGE, body, { DPoP });
  // A token for others is no access token, which is what its type says (RFC 8693 §2.2.1).
  return oauth.processGenericTokenEndpointResponse(server, client, sent, { recognizedTokenTypes: { n_a: () => {} } });
};
const shown = await outbound(cloud)();
check('a credential is exchanged for a token to show to a cloud', shown.token_type === 'n_a' && shown.issued_token_type?.endsWith(':jwt'), shown);
const oidc = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc' }));
const published = createRemoteJWKSet(new URL(oidc.jwks_uri));
const rules = { issuer: oidc.issuer, audience: cloud, algorithms: ['RS256'], requiredClaims: ['sub', 'iat', 'nbf', 'exp', 'jti'], maxTokenAge: '1h' };
const verified = await jwtVerify(shown.access_token, published, rules);
check('jose takes it by the published keys', verified.payload.sub.endsWith(`/${clientId}`) && verified.payload.aud === cloud, verified.payload);
const misused = await jwtVerify(shown.access_token, published, { ...rules, audience: 'elsewhere' }).catch((error) => error);
check('jose refuses it for another audience', misused.code === 'ERR_JWT_CLAIM_VALIDATION_FAILED', misused);
const undeclared = await outbound('elsewhere')().catch((error) => error);
check('there is none for an audience that is not declared', undeclared.error === 'invalid_target', undeclared);
const version = '2026-07-28';
const body = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: {
    name: 'get-sum',
    arguments: { a: 20, b: 22 },
    _meta: { 'io.modelcontextprotocol/protocolVersion': version, 'io.modelcontextprotocol/clientCapabilities': {}, 'io.modelcontextprotocol/clientInfo': { name: 'interop', version: '1.0.0' } },
  },
});
const headers = () => new Headers({
  accept: 'application/json, text/event-stream',
  'content-type': 'application/json',
  'mcp-protocol-version': version,
  'mcp-method': 'tools/call',
  'mcp-name': 'get-sum',
});
const call = async () => {
  const once = () => oauth.protectedResourceRequest(granted.access_token, 'POST', url, headers(), body, { DPoP });
  try {
    return await once();
  } catch (error) {
    if (oauth.isDPoPNonceError(error)) return once();
    throw error;
  }
};
const answer = await (await call()).text();
check('the tool answers', answer.includes('42'), answer);
check('the tool answers again, with a fresh proof', (await (await call()).text()).includes('42'));

const bearer = headers();
bearer.set('authorization', `Bearer ${granted.access_token}`);
const stolen = await fetch(url, { method: 'POST', headers: bearer, body });
check('the token without its key is refused', stolen.status === 401, stolen.status);
check('the refusal names the way to mend it', stolen.headers.get('www-authenticate')?.includes('resource_metadata='), stolen.headers.get('www-authenticate'));
end();
