// The official conformance suite for authorization servers, for which a person logs in and allows what it asks for.
//
//     authorization_suite.mjs ISSUER RESOURCE CLIENT_ID PORT
import { spawn } from 'node:child_process';
import { Browser } from './browser.mjs';
import { check, end } from './checks.mjs';

const [issuer, resource, clientId, port] = process.argv.slice(2);
const suite = spawn(process.execPath, ['node_modules/@modelcontextprotocol/conformance/dist/index.js', 'authorization', '--url', issuer, '--client-id', clientId, '--resource', resource, '--port', port]);
const exited = new Promise((ended) => suite.on('exit', ended));
let printed = '';
let asked = false;
suite.stderr.on('data', (more) => (printed += more));
suite.stdout.on('data', async (more) => {
  printed += more;
  const address = printed.match(/^http\S+\/authorize\?\S+$/m)?.[0];
  // It listens for the answer once it has said so.
  if (asked || !address || !printed.includes('Callback server started')) return;
  asked = true;
  const browser = new Browser();
  const page = await browser.logIn(address, 'ana');
  const after = await browser.submit(page, { answer: 'allow' });
  check('the suite got its answer', after.status === 200, after.text);
});
const code = await exited;
check('the suite asked a person', asked, printed);
const results = [...printed.matchAll(/^(✓|✗) (\S+): (\d+) passed, (\d+) failed/gm)];
for (const [, , scenario, passed, failed] of results) check(`${scenario} passes`, Number(passed) > 0 && failed === '0', printed);
check('both scenarios were run', results.length === 2 && code === 0, printed);
end();
