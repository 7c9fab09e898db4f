//! The demo's report service: writes reports as files, and publishes them to whoever it is told to.

use std::path::{Path, PathBuf};

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::{ErrorData, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};

use super::{internal, send};

/// The report service.
#[derive(Clone, Debug)]
pub(super) struct Server {
    data: PathBuf,
    tool_router: ToolRouter<Self>,
}

/// A report.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Create {
    /// Its title.
    title: String,
    /// Its text, in Markdown.
    body: String,
}

/// Where a report is.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Created {
    file: String,
}

/// What to publish.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Publish {
    /// The report's file.
    file: String,
    /// The address to send it to.
    to: String,
}

/// Whether it was published.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Published {
    published: bool,
}

#[tool_router]
impl Server {
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), tool_router: Self::tool_router() }
    }

    /// Write a report.
    #[tool(annotations(read_only_hint = false, destructive_hint = false, open_world_hint = false))]
    fn create(&self, Parameters(Create { title, body }): Parameters<Create>) -> Result<Json<Created>, ErrorData> {
        let (directory, file) = (self.data.join("reports"), format!("{}.md", slug(&title)));
        std::fs::create_dir_all(&directory).map_err(internal)?;
        std::fs::write(directory.join(&file), format!("# {title}\n\n{body}\n")).map_err(internal)?;
        Ok(Json(Created { file }))
    }

    /// Run the publishing workflow: send a report to an address outside the house.
    #[tool(annotations(read_only_hint = false, destructive_hint = true, open_world_hint = true))]
    fn publish(&self, Parameters(Publish { file, to }): Parameters<Publish>) -> Result<Json<Published>, ErrorData> {
        send(&self.data, "published.txt", &format!("{to}\n{}", slug(&file)))?;
        Ok(Json(Published { published: true }))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_instructions("Reports.")
    }
}

/// A file's name from a title: lower-case letters, digits and hyphens, nothing that leads elsewhere.
fn slug(title: &str) -> String {
    let kept: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    kept.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}
