//! Envoy as its makers build it, in front of a tool server, with Bailiwick as what it asks (`ext_authz`).

use std::process::Command;

use serde_json::{Value, json};

use crate::Result;
use crate::gateway::{AGENT, Bundle, Reached};
use crate::interop::{client, python};
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// Agents reach a tool server through Envoy: what may passes, and nothing else.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    tools.python_environment("venv-envoy", &tools.root.join("interop/envoy.txt"))?;
    let mut report = Report::default();
    let (remote_port, plain, asked, port) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let mut remote = Server::start(
        tools,
        "envoy-remote",
        tools
            .node()?
            .env("PORT", remote_port.to_string())
            .args(["node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"]),
    )?;
    remote.wait_for_port(remote_port)?;

    let bundle = Bundle::write(tools, "envoy", "[\"remote/get-sum\"]", "[agent.credential]\nproof = \"bearer\"\n")?;
    bundle.add_server(tools, "remote", &Reached::Http(format!("http://127.0.0.1:{remote_port}/mcp")))?;
    let settings = process::read(&bundle.directory.join("bailiwick.toml"))?;
    bundle.add("bailiwick.toml", &format!("{settings}[ext_authz]\nlisten = \"127.0.0.1:{asked}\"\n"))?;
    let server = bundle.serve(tools)?;

    let origin = format!("http://127.0.0.1:{port}");
    bundle
        .add("envoy.json", &configuration(port, &origin, [("remote", remote_port), ("plain", plain), ("bailiwick", asked)]).to_string())?;
    let mut envoy = Command::new(tools.cache().join("venv-envoy/bin/envoy"));
    envoy.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn", "-c"]).arg(bundle.directory.join("envoy.json"));
    let mut envoy = Server::start(tools, "envoy", &mut envoy)?;
    envoy.wait_for_port(port)?;

    let bearer = token(tools, &bundle, &["--bearer"])?;
    let bound = token(tools, &bundle, &["--proof-for", "POST", &format!("{origin}/plain")])?;
    let part = |token: &Value, key: &str| token.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let arguments = [part(&bearer, "access_token"), part(&bound, "access_token"), part(&bound, "proof")];
    report.merge(client(tools, "behind-envoy", python(tools, "behind_envoy.py").args([&origin, &plain.to_string()]).args(arguments))?);
    drop((envoy, server));
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}

/// A credential for the server behind Envoy.
fn token(tools: &Tools, bundle: &Bundle, more: &[&str]) -> Result<Value> {
    let line = bundle.connect(tools);
    let (program, arguments) = line.split_first().ok_or("an empty command line")?;
    let arguments = arguments.iter().map(|argument| if argument == "connect" { "token" } else { argument });
    let mut command = Command::new(program);
    command.args(arguments).args(["--server", "remote", "--json"]).args(more);
    let printed = process::run(tools, "envoy-token", &mut command)?;
    serde_json::from_str(&printed.output).map_err(|_| format!("no credential for `{AGENT}`:\n{}", printed.tail(20)).into())
}

/// Envoy's configuration: two tool servers, and what it asks before either. It hands over the first 4 KiB of a body, so that a part
/// of a longer one is missing.
fn configuration(port: u16, origin: &str, clusters: [(&str, u16); 3]) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let cluster = |(name, port): (&str, u16)| {
        let mut cluster = json!({
            "name": name,
            "type": "STATIC",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }] },
        });
        if let (true, Some(members)) = (name == "bailiwick", cluster.as_object_mut()) {
            let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            } });
            members.insert("typed_extension_protocol_options".to_owned(), http2);
        }
        cluster
    };
    let route = |path: &str, cluster: &str| {
        json!({
            "match": { "prefix": path },
            "route": { "cluster": cluster, "timeout": "30s" },
            "typed_per_filter_config": { "envoy.filters.http.ext_authz": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                "check_settings": { "context_extensions": { "bailiwick_server": "remote", "bailiwick_origin": origin } },
            } },
        })
    };
    let filters = json!([
        { "name": "envoy.filters.http.ext_authz", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "bailiwick" }, "timeout": "10s" },
            "failure_mode_allow": false,
            "with_request_body": { "max_request_bytes": 4096, "allow_partial_message": true, "pack_as_bytes": true },
        } },
        { "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        } },
    ]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "agents",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route("/mcp", "remote"), route("/plain", "plain")] }] },
        "http_filters": filters,
    });
    json!({ "static_resources": {
        "listeners": [{
            "name": "agents",
            "address": address(port),
            "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
        }],
        "clusters": clusters.map(cluster),
    } })
}
