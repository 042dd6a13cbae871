//! Real handshakes over real sockets: who is accepted, who is refused, and by which reason.

mod accepted;
mod broken;
mod openssl;
mod refused;
mod rotation;

use std::time::Duration;

use tokio::net::UnixStream;
use weft_abi::Reason;
use weft_model::ServiceAccount;

use super::{Endpoint, Refused, TlsStream};

/// Far more than a handshake takes, and less than a test that hangs may.
const SOON: Duration = Duration::from_mins(1);

type Ended = Result<TlsStream<UnixStream>, Refused>;

/// Lets `client` connect to what it takes for a server of `account`: the client's end, the server's end.
async fn meet(client: &Endpoint, server: &Endpoint, account: ServiceAccount) -> (Ended, Ended) {
    let (near, far) = UnixStream::pair().unwrap();
    tokio::join!(client.connect(near, &account, SOON), server.accept(far, SOON))
}

fn reason(ended: &Ended) -> Reason {
    ended.as_ref().err().map_or(Reason::NONE, Refused::reason)
}
