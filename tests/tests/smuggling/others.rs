//! nginx and haproxy as reverse proxies, one socket for each upstream.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use weft_tests::soon;

use crate::client::Address;

/// A proxy that runs. Dropped, it is killed; it dies with this process, too.
pub(crate) struct Other {
    pub(crate) addresses: Vec<Address>,
    child: Child,
    dir: TempDir,
}

impl Other {
    pub(crate) fn nginx(upstreams: &[SocketAddr]) -> Self {
        let mut servers = String::new();
        for (at, upstream) in upstreams.iter().enumerate() {
            writeln!(
                servers,
                "server {{ listen unix:@DIR@/{at}.sock; location / {{ proxy_pass http://{upstream}; \
                 proxy_http_version 1.1; proxy_set_header Host $http_host; }} }}"
            )
            .unwrap();
        }
        let config = format!(
            "daemon off;\nmaster_process off;\npid @DIR@/pid;\nevents {{ worker_connections 512; }}\nhttp {{\n\
             access_log off;\nclient_body_temp_path @DIR@/body;\nproxy_temp_path @DIR@/proxy;\n\
             client_header_timeout 1s;\nclient_body_timeout 1s;\nkeepalive_timeout 1s;\nlingering_timeout 1s;\n\
             {servers}}}\n"
        );
        Self::start("nginx", &["-e", "@DIR@/log", "-c"], &config, upstreams.len())
    }

    pub(crate) fn haproxy(upstreams: &[SocketAddr]) -> Self {
        let mut config =
            "global\n nbthread 1\ndefaults\n mode http\n option http-server-close\n timeout connect 5s\n \
                          timeout server 5s\n timeout client 1s\n timeout http-request 1s\n \
                          timeout http-keep-alive 1s\n timeout tunnel 1s\n"
                .to_owned();
        for (at, upstream) in upstreams.iter().enumerate() {
            writeln!(
                config,
                "frontend f{at}\n bind unix@@DIR@/{at}.sock\n default_backend b{at}\nbackend b{at}\n server s {upstream}"
            )
            .unwrap();
        }
        Self::start("haproxy", &["-db", "-f"], &config, upstreams.len())
    }

    fn start(program: &str, arguments: &[&str], config: &str, sockets: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = |text: &str| text.replace("@DIR@", &dir.path().display().to_string());
        let file = dir.path().join("config");
        fs::write(&file, place(config)).unwrap();
        let output = File::create(dir.path().join("output")).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments.iter().map(|text| place(text)))
            .arg(&file);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().expect("these tests need `setpriv` of util-linux");
        let addresses = (0..sockets).map(|at| Address::Unix(dir.path().join(format!("{at}.sock")))).collect();
        let mut this = Self { addresses, child, dir };
        this.wait(program);
        this
    }

    /// Ready when every socket takes connections.
    fn wait(&mut self, program: &str) {
        let dir = self.dir.path().to_owned();
        soon(|| {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = read(&dir.join("output")) + &read(&dir.join("log"));
                panic!("{program} ends with {status}; is it installed (`cargo xtask setup`)? {said}");
            }
            self.addresses.iter().all(Address::answers)
        });
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
