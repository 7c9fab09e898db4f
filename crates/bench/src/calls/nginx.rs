//! nginx as a plain proxy: what moving the bytes costs at the least.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{Program, free_port};

/// A running nginx.
pub(super) struct Nginx {
    pub(super) program: Program,
    pub(super) port: u16,
}

impl Nginx {
    /// Starts it before the upstream with a configuration of its own; nothing where it is not installed.
    pub(super) async fn start(home: &Path, upstream_port: u16) -> Result<Option<Self>> {
        let asked = Command::new("nginx").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !asked.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let (port, home) = (free_port()?, home.join("nginx"));
        std::fs::create_dir_all(&home)?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", home.display()))
            .concat();
        let user = if std::env::var("USER").is_ok_and(|user| user == "root") { "user root;\n" } else { "" };
        let configuration = format!(
            "daemon off;\n{user}worker_processes 2;\npid {0}/pid;\nerror_log {0}/errors warn;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n{temporary}access_log off;\nkeepalive_requests 1000000;\n\
             upstream echo {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000; }}\n\
             server {{\nlisten 127.0.0.1:{port};\nclient_body_buffer_size 64k;\n\
             location / {{\nproxy_pass http://echo;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             proxy_max_temp_file_size 0;\n}}\n}}\n}}\n",
            home.display()
        );
        let file = home.join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let program = Program::start(Command::new("nginx").arg("-p").arg(&home).arg("-c").arg(&file), &home.join("said"))?;
        program.wait_until_it_listens(port).await?;
        Ok(Some(Self { program, port }))
    }
}
