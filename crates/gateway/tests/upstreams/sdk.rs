//! A tool server built with the official SDK, which nobody here wrote: both eras, over HTTP and over standard input and output.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequestParams, ElicitationSchema, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};

use crate::world::{Agent, World, bundle, definition, shown};

const TOOLS: [&str; 3] = ["echo", "progress", "ask"];

#[derive(Clone)]
struct Sdk {
    versions: Cow<'static, [ProtocolVersion]>,
}

impl Sdk {
    fn of(era: &str) -> Self {
        let legacy: &[ProtocolVersion] = &[ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25];
        let modern: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];
        Self { versions: Cow::Borrowed(if era == "modern" { modern } else { legacy }) }
    }
}

impl ServerHandler for Sdk {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.versions.clone()
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" }).as_object().unwrap().clone();
        Ok(ListToolsResult::with_all_items(TOOLS.map(|name| Tool::new(name, name, schema.clone())).to_vec()))
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let text = match request.name.as_ref() {
            "echo" => Value::Object(request.arguments.unwrap_or_default()).to_string(),
            "progress" => {
                let token = context.meta.get_progress_token().ok_or_else(|| ErrorData::invalid_params("no token", None))?;
                let _ = context.peer.notify_progress(ProgressNotificationParam::new(token, 1.0)).await;
                "done".to_owned()
            }
            _ => {
                let form = ElicitRequestParams::FormElicitationParams {
                    meta: None,
                    message: "Who?".to_owned(),
                    requested_schema: ElicitationSchema::new(BTreeMap::new()),
                };
                match context.peer.create_elicitation(form).await {
                    Ok(answer) => format!("{:?}", answer.action),
                    Err(error) => error.to_string(),
                }
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Serves the SDK's server over HTTP and returns how it is declared.
async fn over_http(era: &'static str) -> String {
    let config = StreamableHttpServerConfig::default();
    let service = StreamableHttpService::new(move || Ok(Sdk::of(era)), Arc::new(LocalSessionManager::default()), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    format!("mcp = \"http://{address}/mcp\"")
}

/// How the SDK's server is declared over standard input and output.
fn over_stdio(era: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let words = ["sdk::runs", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    format!("stdio = [{program:?}, {}]\nenv = {{ ERA = \"{era}\" }}", words.map(|word| format!("{word:?}")).join(", "))
}

#[tokio::test]
#[ignore = "the other tests run it as a process of its own"]
async fn runs() {
    let Ok(era) = std::env::var("ERA") else { return };
    println!();
    let _ = Sdk::of(&era).serve(rmcp::transport::stdio()).await.unwrap().waiting().await;
}

fn text(answer: &str) -> String {
    let said = answer.split_once("\"text\":").unwrap_or_else(|| panic!("{answer}")).1;
    serde_json::Deserializer::from_str(said).into_iter::<String>().next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_is_understood_in_both_eras_over_both_transports() {
    for era in ["modern", "legacy"] {
        for transport in [over_http(era).await, over_stdio(era)] {
            let world = World::start(bundle(&transport, &TOOLS.map(definition)));
            let answer = shown(&world.call("echo", "{\"a\": [1, {\"b\": null}]}").await);
            assert_eq!(text(&answer), r#"{"a":[1,{"b":null}]}"#, "{era} {transport}");
            let name = "s".parse().unwrap();
            let described = world.peers.peer(&name).unwrap().described().await.unwrap();
            assert_eq!(described.is_modern(), era == "modern", "{transport}");

            let agent = Agent::silent();
            let extras = json!({ "_meta": { "progressToken": "mine" } });
            let answer = shown(&world.call_as("progress", "{}", extras, &agent).await);
            assert_eq!(text(&answer), "done", "{era} {transport}");
            assert_eq!(agent.shown.lock().unwrap()[0]["params"]["progressToken"], "mine", "{era} {transport}");

            if era == "legacy" {
                let agent = Agent::answering(json!({ "action": "decline" }));
                let extras = json!({ "_meta": { "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } } });
                let answer = shown(&world.call_as("ask", "{}", extras, &agent).await);
                assert_eq!(text(&answer), "Decline", "{transport}");
                assert_eq!(agent.asked.lock().unwrap()[0].1["message"], "Who?");
            }
        }
    }
}
