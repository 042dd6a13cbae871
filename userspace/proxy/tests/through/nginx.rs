//! A real server's habits: nginx says GOAWAY after so many requests, with others on their way.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::Request;
use tokio::time::timeout;
use weft_model::AppProtocol::Http2;

use crate::mesh::{Mesh, PATIENCE, empty, plain, read};

/// nginx in the namespace of a mesh, until it is dropped.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// HTTP/2 without TLS; a connection ends after so many requests.
    async fn start(mesh: &Mesh, requests: u32) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), mesh.nobody());
        let configuration = format!(
            "daemon off; master_process off; pid pid; error_log error.log; events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi; server {{ listen {address} http2;\n\
             keepalive_requests {requests}; return 200 ok; }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = mesh.inside(move || command.spawn()).unwrap();
        let nginx = Self { process, address, _folder: folder };
        let listens = async {
            while mesh.inside(move || std::net::TcpStream::connect(address)).is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, listens).await.expect("nginx listens");
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn no_request_fails_where_nginx_ends_its_connections_after_a_hundred() {
    let mesh = Arc::new(Mesh::start().await);
    let nginx = Nginx::start(&mesh, 100).await;
    mesh.serve(plain(Http2), &[nginx.address]);
    let left = Arc::new(AtomicUsize::new(10_000));
    let mut asking = Vec::new();
    for _ in 0..4 {
        let client = mesh.http2().await;
        // So many streams of a connection at once that some are on their way whenever one ends.
        for _ in 0..25 {
            let (mut client, left) = (client.clone(), Arc::clone(&left));
            asking.push(tokio::task::spawn(async move {
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    client.ready().await.unwrap();
                    // Nothing that might be sent twice without anybody minding.
                    let request = Request::post("http://web/").body(empty()).unwrap();
                    let answer = timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
                    assert_eq!(read(answer).await, (200, String::new(), "ok".into()));
                }
            }));
        }
    }
    for asked in asking {
        asked.await.unwrap();
    }
}
