//! Request smuggling: what weft forwards has one reading, and weft is never more lenient than nginx and haproxy both.
//!
//! Every payload of `tests/smuggling/cases` goes to nginx, to haproxy and to weft, each before an upstream that takes
//! down what it gets. The differences are printed; `cargo test -p weft-tests --test smuggling -- --nocapture` shows them.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "smuggling/client.rs"]
mod client;
#[path = "smuggling/compare.rs"]
mod compare;
#[path = "smuggling/corpus.rs"]
mod corpus;
#[path = "smuggling/mesh.rs"]
mod mesh;
#[path = "smuggling/others.rs"]
mod others;
#[path = "smuggling/strict.rs"]
mod strict;
#[path = "smuggling/upstream.rs"]
mod upstream;
