//! Somebody who issues tokens, and serves the keys that verify them over HTTP.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use weft_tests::TokenKey;

/// Signs tokens of `https://idp.example` for `shop`.
pub(crate) struct Key(TokenKey);

/// Serves one key until the test ends.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    /// What it answers; `None` is an error.
    document: Arc<Mutex<Option<String>>>,
}

impl Key {
    pub(crate) fn new(id: &str) -> Self {
        Self(TokenKey::new(id))
    }

    fn document(&self) -> String {
        self.0.document()
    }

    /// Of `ann`, good for five minutes, with these claims beside or in place of that.
    pub(crate) fn token(&self, others: &Value) -> String {
        let mut claims = json!({"iss": "https://idp.example", "aud": "shop", "sub": "ann"});
        for (name, value) in others.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.0.sign(&claims)
    }
}

impl Provider {
    pub(crate) fn serve(key: &Key) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            document: Arc::new(Mutex::new(Some(key.document()))),
        };
        let document = Arc::clone(&provider.document);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, document.lock().unwrap().clone());
            }
        });
        provider
    }

    pub(crate) fn rotates_to(&self, key: &Key) {
        *self.document.lock().unwrap() = Some(key.document());
    }

    pub(crate) fn breaks(&self) {
        *self.document.lock().unwrap() = None;
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}/jwks", self.address)
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn answer(mut stream: TcpStream, document: Option<String>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let asked = head.first().is_some_and(|line| line.starts_with("GET /jwks "));
    let text = match document.filter(|_| asked) {
        Some(body) => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
        None => "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    // Who has gone needs no answer.
    let _ = stream.write_all(text.as_bytes());
}
