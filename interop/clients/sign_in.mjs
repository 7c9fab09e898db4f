// A person's own MCP clients sign in: the official TypeScript SDKs, unmodified, and `oauth4webapi`. The person logs in at a real login
// service and is asked by us; each client then calls a tool with what it was given.
//
//     sign_in.mjs RESOURCE CLIENT_ID REDIRECT_URI BEARER_RESOURCE_CLIENT_ID
//
// CLIENT_ID is the URL of a client's document (CIMD), whose agent binds credentials to keys (DPoP). The last argument is the id of a client
// without a document, whose agent binds them to nothing.
import { createServer } from 'node:http';
import { generateDpopKeyPair, Client as ClientV2, DpopSession, StreamableHTTPClientTransport as TransportV2 } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as oauth from 'oauth4webapi';
import { Browser } from './browser.mjs';
import { check, end } from './checks.mjs';

const [resource, clientId, redirect, bearerId] = process.argv.slice(2);
const url = new URL(resource);
const textOf = (result) => result.content.map((content) => content.text ?? '').join('');
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

// Where the answers of all clients go, as a program on the person's machine listens for them.
const answers = [];
const listener = createServer((request, response) => {
  answers.push(new URL(request.url, redirect).searchParams);
  response.end('You may close this window.');
});
await new Promise((listening) => listener.listen(Number(new URL(redirect).port), '127.0.0.1', listening));

/** Has a person log in where a client sends its browser, and answer; gives the page that asked, and what the client heard. */
async function person(name, address, answer = 'allow') {
  const browser = new Browser();
  const page = await browser.logIn(address, name);
  if (page.status !== 200) return { page };
  const after = await browser.submit(page, { answer });
  return { page, after, heard: answers.pop() };
}

/** What an SDK wants to know of its client, kept in memory. */
class Kept {
  constructor(information, dpop) {
    Object.assign(this, { information, kept: {} });
    if (dpop) this.dpop = () => dpop;
    if (!information) this.clientMetadataUrl = clientId;
  }
  redirectUrl = redirect;
  clientMetadata = { client_name: 'Desk', redirect_uris: [redirect], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' };
  state = () => (this.kept.state ??= crypto.randomUUID());
  clientInformation = () => this.information;
  saveClientInformation = (information) => (this.information = information);
  tokens = () => this.kept.tokens;
  saveTokens = (tokens) => (this.kept.tokens = tokens);
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier) => (this.kept.verifier = verifier);
  discoveryState = () => this.kept.discovery;
  saveDiscoveryState = (discovery) => (this.kept.discovery = discovery);
  redirectToAuthorization = (address) => (this.kept.address = address);
}

for (const [generation, Client, Transport, information, dpop] of [
  ['v2', ClientV2, TransportV2, undefined, await DpopSession.create({ keyPair: await generateDpopKeyPair() })],
  ['v1', ClientV1, TransportV1, { client_id: bearerId }, undefined],
]) {
  const provider = new Kept(information, dpop);
  const options = generation === 'v2' ? { versionNegotiation: { mode: 'auto' } } : {};
  const connect = async () => {
    const client = new Client({ name: 'interop', version: '1.0.0' }, options);
    const transport = new Transport(url, { authProvider: provider });
    try {
      await client.connect(transport);
    } catch (error) {
      return { error, transport };
    }
    return { client, transport };
  };
  const call = (client) => generation === 'v2' ? client.callTool({ name: 'get-sum', arguments: { a: 20, b: 22 } }) : client.callTool({ name: 'get-sum', arguments: { a: 20, b: 22 } }, undefined);

  const first = await connect();
  check(`${generation}: the client is sent to sign in`, provider.kept.address !== undefined, first.error?.message);
  check(`${generation}: as the client that it is, for the server that it wants`, provider.kept.address?.searchParams.get('client_id') === (bearerId === information?.client_id ? bearerId : clientId) && provider.kept.address.searchParams.get('resource') === resource, provider.kept.address?.href);

  const bo = await person('bo', provider.kept.address);
  check(`${generation}: who may not sign in by it is told so`, bo.page.status === 403 && bo.page.text.includes('not one of those who may sign in'), bo.page.text);
  const no = await person('ana', provider.kept.address, 'refuse');
  check(`${generation}: a refusal reaches the client`, no.heard?.get('error') === 'access_denied' && no.heard.get('state') === provider.kept.state, String(no.heard));

  const { page, after, heard } = await person('ana', provider.kept.address);
  check(`${generation}: the person is asked, by name`, page.text.includes('ana@acme.example') && page.text.includes('take care'), page.text);
  check(`${generation}: the answer goes to the client`, after.text.includes('close this window') && heard.get('state') === provider.kept.state, after.text);
  await first.transport.finishAuth(generation === 'v2' ? heard : heard.get('code'));
  const claims = claimsOf(provider.kept.tokens.access_token);
  check(`${generation}: the credential says who acts for whom`, claims.sub === 'people:ana' && claims.act.sub.includes('/agent/') && claims.aud === resource, claims);
  check(`${generation}: it is bound as the operator says`, generation === 'v2' ? claims.cnf?.jkt === dpop.thumbprint : claims.cnf === undefined, claims);

  const second = await connect();
  check(`${generation}: the client connects`, second.client !== undefined, second.error?.message);
  check(`${generation}: a tool answers`, textOf(await call(second.client)).includes('42'));

  // What it has is over, as after some minutes; it goes on by itself.
  const before = provider.kept.tokens;
  provider.kept.tokens = { ...before, access_token: `${before.access_token.slice(0, -4)}AAAA` };
  const third = generation === 'v2' ? await call(second.client).catch((error) => error) : await call(second.client).catch((error) => error);
  check(`${generation}: it renews by itself and a tool answers`, third.content !== undefined && textOf(third).includes('42'), third.message);
  check(`${generation}: with another refresh token, of the same execution`, provider.kept.tokens.refresh_token !== before.refresh_token && claimsOf(provider.kept.tokens.access_token).txn === claims.txn, provider.kept.tokens);
  await second.client.close();
}

// The same by hand, with the library that checks each answer as its standard says; and what a thief would try.
const onLoopback = { [oauth.allowInsecureRequests]: true };
const found = await oauth.processResourceDiscoveryResponse(url, await oauth.resourceDiscoveryRequest(url, onLoopback));
const issuer = new URL(found.authorization_servers[0]);
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' }));
check('the server says what a client needs to know', server.client_id_metadata_document_supported && server.authorization_response_iss_parameter_supported && server.code_challenge_methods_supported.includes('S256'), server);
const client = { client_id: clientId };
const key = await oauth.generateKeyPair('ES256');
const DPoP = oauth.DPoP(client, key);
const again = async (once) => once().catch((error) => (oauth.isDPoPNonceError(error) ? once() : Promise.reject(error)));

async function signIn(bound) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const address = new URL(server.authorization_endpoint);
  address.search = new URLSearchParams({
    response_type: 'code', client_id: clientId, redirect_uri: redirect, resource, state, scope: 'read write',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...(bound && { dpop_jkt: bound }),
  });
  const { heard } = await person('ana', address);
  return { parameters: oauth.validateAuthResponse(server, client, heard, state), verifier };
}
const redeem = (signed, proof = DPoP, verifier = signed.verifier) => again(async () => {
  const sent = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), signed.parameters, redirect, verifier, { DPoP: proof, additionalParameters: { resource }, ...onLoopback });
  return oauth.processAuthorizationCodeResponse(server, client, sent);
});
const refresh = (token, proof = DPoP) => again(async () => {
  const sent = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, { DPoP: proof, ...onLoopback });
  return oauth.processRefreshTokenResponse(server, client, sent);
});
const list = (token) => again(async () => {
  const headers = new Headers({ accept: 'application/json, text/event-stream', 'content-type': 'application/json', 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/list' });
  const meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} };
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: meta } });
  return oauth.protectedResourceRequest(token, 'POST', url, headers, body, { DPoP, ...onLoopback });
});

const signed = await signIn(await DPoP.calculateThumbprint());
const thief = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));
const stolen = await redeem(signed, thief).catch((error) => error);
check('a stolen code is worth nothing without the key', stolen.error === 'invalid_dpop_proof', stolen);
const guessed = await redeem(signed, DPoP, oauth.generateRandomCodeVerifier()).catch((error) => error);
check('nor without the verifier', guessed.error === 'invalid_grant', guessed);
const granted = await redeem(signed);
check('its own client redeems it, for what its agent may', granted.token_type === 'dpop' && granted.scope === 'read', granted);
check('the credential is taken', (await list(granted.access_token)).status === 200);
const renewed = await refresh(granted.refresh_token);
check('a refresh token is good for the next credential', renewed.refresh_token !== granted.refresh_token, renewed);
const taken = await refresh(renewed.refresh_token, thief).catch((error) => error);
check('a stolen refresh token is worth nothing without the key', taken.error === 'invalid_dpop_proof', taken);
const used = await refresh(granted.refresh_token).catch((error) => error);
check('one that was used is refused', used.error === 'invalid_grant', used);
const cut = await list(renewed.access_token).catch((error) => error);
check('and ends what came of it', cut instanceof oauth.WWWAuthenticateChallengeError || cut.status === 401, cut.status);

const replayed = await signIn();
const own = await redeem(replayed);
const replay = await redeem(replayed).catch((error) => error);
check('a code that comes again is refused', replay.error === 'invalid_grant', replay);
const gone = await list(own.access_token).catch((error) => error);
check('and ends what came of it too', gone instanceof oauth.WWWAuthenticateChallengeError || gone.status === 401, gone.status);

const ended = await redeem(await signIn());
const revocation = await oauth.revocationRequest(server, client, oauth.None(), ended.refresh_token, onLoopback);
await oauth.processRevocationResponse(revocation);
const revoked = await refresh(ended.refresh_token).catch((error) => error);
check('a client gives up what it has (RFC 7009)', revoked.error === 'invalid_grant', revoked);
listener.close();
end();
