// People who answer an agent's asks, each in a browser of their own: real pages of a real login service, cookies, forms and
// redirects, nothing else. Meanwhile a chat is told by the webhook, and believes what the official library verifies.
//
//     approver.mjs SIDECAR_URL APPROVALS_ORIGIN HOOK_PORT HOOK_SECRET
import { createServer } from 'node:http';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Webhook } from 'standardwebhooks';
import { Browser } from './browser.mjs';
import { check, end } from './checks.mjs';

const [url, approvals, hookPort, hookSecret] = process.argv.slice(2);

const told = [];
const enough = Promise.withResolvers();
const webhook = new Webhook(hookSecret);
const chat = createServer(async (request, response) => {
  const body = Buffer.concat(await Array.fromAsync(request)).toString();
  try {
    told.push(webhook.verify(body, request.headers));
    response.writeHead(204).end();
  } catch (error) {
    check('each message is signed as Standard Webhooks says', false, error.message);
    response.writeHead(400).end();
  }
  if (told.length === 5) enough.resolve();
});
await new Promise((listening) => chat.listen(Number(hookPort), '127.0.0.1', listening));

const client = new Client({ name: 'interop', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const call = (a, b) => client.callTool({ name: 'everything__get-sum', arguments: { a, b } });
const decision = (result) => result._meta?.['dev.bailiwick/decision'] ?? {};

const asked = await call(20, 22);
const form = decision(asked).context?.access_request?.form_url ?? '';
check('a call that needs a person is answered with where to go', asked.isError && form.startsWith(`${approvals}/approvals/`), asked);

const carl = await new Browser().logIn(form, 'carl');
check('who logs in and is no approver sees nothing', carl.status === 403 && !carl.text.includes('get-sum'), carl.text);

const ana = new Browser();
const page = await ana.logIn(form, 'ana');
check('who logs in by a real login service comes back to what the link was for', page.status === 200 && page.address.href === form, page.address.href);
check('the page shows the tool and the values', page.text.includes('everything/get-sum') && page.text.includes('>20<') && page.text.includes('>22<'), page.text);
check('the page knows who reads it', page.text.includes('ana@acme.example'), page.text);
check('no page has a script, or may be framed or kept', !page.text.includes('<script') && page.headers.get('x-frame-options') === 'DENY' && page.headers.get('cache-control') === 'no-store');

check('the call still waits', (await call(20, 22)).isError);
const bo = new Browser();
const held = await bo.logIn(form, 'bo');
const answered = await ana.submit(page, { answer: 'approve' });
check('the approval is shown', answered.status === 200 && answered.text.includes('approved it'), answered.text);
check('another who answers later is told so', (await bo.submit(held, { answer: 'refuse' })).status === 409);

const done = await call(20, 22);
check('the approved call is made', !done.isError && done.content[0].text.includes('42'), done);
const again = decision(await call(20, 22));
check('once', again.verdict === 'ask' && again.record !== decision(asked).record, again);
const other = decision(await call(21, 22));
check('and no other', other.verdict === 'ask', other);

const refusing = await ana.open(`${approvals}/approvals/${other.record}`);
await ana.submit(refusing, { answer: 'refuse' });
const refused = decision(await call(21, 22));
check('a refused call is denied', refused.verdict === 'deny' && refused.code === 'approval_refused', refused);
await client.close();

await Promise.race([enough.promise, new Promise((resolve) => setTimeout(resolve, 30_000))]);
const types = told.map((message) => message.type).sort();
check('the chat was told of each ask and each answer', types.join() === 'approval.answered,approval.answered,approval.requested,approval.requested,approval.requested', told);
const first = told.find((message) => message.type === 'approval.requested' && message.data.link === form);
check('with a link, and without arguments', first !== undefined && told.every(({ data }) => !('arguments' in data)), told);
chat.close();
end();
