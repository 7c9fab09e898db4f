// The official TypeScript SDK, unmodified, as a client of the sidecar: both the present package (`v2`) and the one that
// most clients in the field still carry (`v1`).
//
//     typescript_sdk.mjs v2|v1 http URL
//     typescript_sdk.mjs v2|v1 stdio COMMAND...
import { check, end } from './checks.mjs';

const [generation, transport, ...rest] = process.argv.slice(2);
const { Client, overHttp, overStdio } = await sdk(generation);
const options = generation === 'v2' ? { versionNegotiation: { mode: 'auto' } } : {};
const client = new Client({ name: 'interop', version: '1.0.0' }, options);
await client.connect(transport === 'http' ? overHttp(new URL(rest[0])) : overStdio({ command: rest[0], args: rest.slice(1) }));

const textOf = (result) => result.content.map((content) => content.text ?? '').join('');
const call = (name, args, ...more) => generation === 'v2'
  ? client.callTool({ name, arguments: args }, ...more)
  : client.callTool({ name, arguments: args }, undefined, ...more);

const names = (await client.listTools()).tools.map((tool) => tool.name);
check('the list has what the agent may call', names.includes('everything__get-sum'), names);
check('the list has nothing else', !names.includes('everything__get-env'), names);

const sum = await call('everything__get-sum', { a: 20, b: 22 });
check('a call reaches a stdio server and comes back', textOf(sum).includes('42'), sum);
const remote = await call('remote__get-sum', { a: 20, b: 22 });
check('a call reaches an HTTP server and comes back', textOf(remote).includes('42'), remote);
const time = await call('time__convert_time', { source_timezone: 'UTC', time: '12:00', target_timezone: 'Asia/Tokyo' });
check('a call reaches a server in Python and comes back', textOf(time).includes('21:00'), time);
const structured = await call('everything__get-structured-content', { location: 'Chicago' });
check('structured content survives', structured.structuredContent?.temperature !== undefined, structured);

const refused = await call('everything__get-env', {});
const decision = refused._meta?.['dev.bailiwick/decision'] ?? {};
check('a call that was not granted is refused as a result', refused.isError === true && decision.verdict === 'deny', refused);
check('the refusal says its code first', textOf(refused).startsWith(decision.code), textOf(refused));

const told = [];
const long = await call('everything__trigger-long-running-operation', { duration: 0.2, steps: 4 }, { onprogress: (at) => told.push(at.progress) });
check('progress is told while the call runs', told.length >= 2 && !long.isError, told);

const uris = (await client.listResources()).resources.map((resource) => resource.uri);
const uri = uris.find((uri) => uri.endsWith('/architecture.md'));
check('a resource is listed', uri !== undefined, uris);
const { contents } = await client.readResource({ uri });
check('a resource can be read', contents[0]?.text?.includes('#'), contents);
const prompt = await client.getPrompt({ name: 'everything__simple-prompt' });
check('a prompt can be got', prompt.messages.length === 1, prompt);
await client.close();
end();

async function sdk(name) {
  if (name === 'v2') {
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
    return { Client, overHttp: (url) => new StreamableHTTPClientTransport(url), overStdio: (server) => new StdioClientTransport(server) };
  }
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  return { Client, overHttp: (url) => new StreamableHTTPClientTransport(url), overStdio: (server) => new StdioClientTransport(server) };
}
