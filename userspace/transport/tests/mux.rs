//! Many streams on one connection.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use weft_transport::mux::{self, Driver, Incoming, Opener, STREAMS, Stream, WINDOW};
use weft_transport::{End, Progress, Relayed, relay_inside};

type Carrying = Driver<BufReader<DuplexStream>>;

/// Both ends of a connection; nothing moves unless both drivers are polled.
fn connection() -> (Opener, Incoming, [Carrying; 2]) {
    let (near, far) = duplex(64 << 10);
    let (opener, near) = mux::client(BufReader::new(near));
    let (incoming, far) = mux::server(BufReader::new(far));
    (opener, incoming, [near, far])
}

/// Does `work` while bytes move; an end of the connection is none of it.
async fn moving<T>(drivers: &mut [Carrying; 2], work: impl Future<Output = T>) -> T {
    let [near, far] = drivers;
    let mut work = pin!(work);
    select! {
        done = &mut work => return done,
        _ = near => {}
        _ = far => {}
    }
    work.await
}

async fn pair(opener: &Opener, incoming: &Incoming) -> (Stream, Stream) {
    let near = opener.open(7).unwrap();
    let (far, port) = incoming.accept().await.unwrap();
    assert_eq!(port, 7);
    far.is_open();
    near.opened().await.unwrap();
    (near, far)
}

#[tokio::test]
async fn each_way_ends_by_itself_and_whoever_speaks_first_is_heard() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let (mut near, mut far) = pair(&opener, &incoming).await;
        far.write_all(b"welcome").await.unwrap();
        let mut welcome = [0; 7];
        near.read_exact(&mut welcome).await.unwrap();
        near.write_all(b"the last word").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!((&welcome, &*all), (b"welcome", &b"the last word"[..]));
        far.write_all(b"and an answer").await.unwrap();
        far.shutdown().await.unwrap();
        all.clear();
        near.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"and an answer");
        drop((near, far));
        assert_eq!((opener.streams(), incoming.streams()), (0, 0));
        // The connection is used again.
        pair(&opener, &incoming).await;
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn a_reset_comes_behind_the_bytes_before_it_and_touches_no_other_stream() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let (mut other, mut others) = pair(&opener, &incoming).await;
        for near_resets in [true, false] {
            let (near, far) = pair(&opener, &incoming).await;
            let (mut first, mut second) = if near_resets { (near, far) } else { (far, near) };
            first.write_all(b"before").await.unwrap();
            drop(first);
            let mut before = [0; 6];
            second.read_exact(&mut before).await.unwrap();
            assert_eq!(&before, b"before");
            assert_eq!(second.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(second.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        other.write_all(b"still here").await.unwrap();
        others.read_exact(&mut [0; 10]).await.unwrap();
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn one_that_was_ended_and_let_go_is_no_reset_until_the_other_end_sends_more() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        for sends_more in [false, true] {
            let (mut near, mut far) = pair(&opener, &incoming).await;
            far.write_all(b"all of it").await.unwrap();
            far.shutdown().await.unwrap();
            drop(far);
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"all of it");
            if sends_more {
                near.write_all(b"to nobody").await.unwrap();
                assert_eq!(near.broken().await.kind(), ErrorKind::ConnectionReset);
            }
            near.shutdown().await.unwrap();
            drop(near);
            while incoming.streams() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(opener.streams(), 0);
        }
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn one_that_is_let_go_with_bytes_unread_is_reset_though_it_was_ended() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let (mut near, mut far) = pair(&opener, &incoming).await;
        near.write_all(b"unread").await.unwrap();
        far.readable().await;
        far.shutdown().await.unwrap();
        drop(far);
        assert_eq!(near.broken().await.kind(), ErrorKind::ConnectionReset);
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_its_writer_and_no_other() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let (mut stalled, unread) = pair(&opener, &incoming).await;
        let block = vec![1; 64 << 10];
        let mut held = 0;
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(200), stalled.write(&block)).await
        {
            held += written.unwrap();
        }
        assert_eq!(held, usize::try_from(WINDOW).unwrap());
        let (mut near, mut far) = pair(&opener, &incoming).await;
        let (sent, mut read) = (vec![2; LARGE], vec![0; LARGE]);
        let (wrote, got) = tokio::join!(near.write_all(&sent), far.read_exact(&mut read));
        wrote.unwrap();
        got.unwrap();
        assert!(read == sent);
        drop(unread);
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways_on_many_streams_at_once() {
    let (opener, incoming, mut drivers) = connection();
    let one = async |(near, far): (Stream, Stream), salt: usize| {
        let bytes = |way: usize| -> Vec<u8> {
            (0..LARGE).map(|at| u8::try_from((at * (way + 3) + salt) % 251).unwrap()).collect()
        };
        let (forth, back) = (bytes(0), bytes(1));
        let through = async |mut stream: Stream, sent: &[u8], wanted: &[u8]| {
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            let mut got = vec![0; wanted.len()];
            let (wrote, read) = tokio::join!(writer.write_all(sent), reader.read_exact(&mut got));
            wrote.unwrap();
            read.unwrap();
            assert!(got == wanted, "other bytes");
        };
        tokio::join!(through(near, &forth, &back), through(far, &back, &forth));
    };
    let work = async {
        let (a, b, c) =
            (pair(&opener, &incoming).await, pair(&opener, &incoming).await, pair(&opener, &incoming).await);
        tokio::join!(one(a, 1), one(b, 2), one(c, 3));
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn streams_are_bounded_and_a_place_is_free_again_when_one_has_ended() {
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let mut all = Vec::new();
        for _ in 0..STREAMS {
            all.push(pair(&opener, &incoming).await);
        }
        assert!(!opener.is_open());
        assert!(opener.open(1).is_none());
        all.pop();
        while opener.streams() == STREAMS || incoming.streams() == STREAMS {
            tokio::task::yield_now().await;
        }
        all.push(pair(&opener, &incoming).await);
    };
    moving(&mut drivers, work).await;
}

#[tokio::test]
async fn a_server_that_leaves_serves_what_is_there_and_the_client_closes_after_the_last() {
    let (opener, incoming, [mut near, mut far]) = connection();
    let work = async {
        let (mut one, mut other) = pair(&opener, &incoming).await;
        incoming.leave();
        while opener.is_open() {
            tokio::task::yield_now().await;
        }
        one.write_all(b"x").await.unwrap();
        other.read_exact(&mut [0]).await.unwrap();
    };
    let carried = tokio::join!(work, &mut near, &mut far);
    assert!(carried.1.is_ok() && carried.2.is_ok(), "in order");
    assert!(incoming.accept().await.is_none());
}

#[tokio::test]
async fn the_end_of_a_connection_cuts_its_streams() {
    let (opener, incoming, mut drivers) = connection();
    let (mut near, mut far) = moving(&mut drivers, pair(&opener, &incoming)).await;
    drop(drivers);
    for stream in [&mut near, &mut far] {
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(opener.open(1).is_none() && incoming.accept().await.is_none());
}

#[tokio::test]
async fn what_no_proxy_of_weft_says_ends_the_connection() {
    let open = [1, 0, 0, 2, 0, 0, 0, 1, 0, 9];
    let data = [&[2, 0, 0x80, 0, 0, 0, 0, 1][..], &vec![0; 32 << 10]].concat();
    // A window is sixteen of them.
    let beyond_its_credit = [&open[..], &data.repeat(17)].concat();
    let credit = [&open[..], &[5, 0, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat();
    for said in [
        beyond_its_credit,
        credit,
        [&open[..], &open].concat(),
        vec![2, 0, 0, 1, 0, 0, 0, 9, 0],
        vec![5, 0, 0, 1, 0, 0, 0, 1, 0],
    ] {
        let (mut near, far) = duplex(1 << 20);
        let (incoming, driver) = mux::server(BufReader::new(far));
        near.write_all(&said).await.unwrap();
        let ended = driver.await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::InvalidData, "{ended}");
        drop(incoming);
    }
}

#[tokio::test]
async fn a_client_that_asks_on_and_takes_no_answer_is_cut_off() {
    let (mut near, far) = duplex(64 << 10);
    let (_incoming, driver) = mux::server(BufReader::new(far));
    let asking = async {
        for number in 1_u32.. {
            let frame = [&[1, 0, 0, 2][..], &number.to_be_bytes(), &[0, 9]].concat();
            near.write_all(&frame).await.unwrap();
        }
    };
    let ended = select! {
        ended = driver => ended,
        () = asking => unreachable!("there are four billion"),
    };
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_server_that_says_nothing_loses_what_it_was_asked_for_only() {
    let (opener, incoming, mut drivers) = connection();
    let (mut answered, _kept) = moving(&mut drivers, pair(&opener, &incoming)).await;
    let asked = opener.open(1).unwrap();
    assert!(opener.is_asked());
    opener.give_up();
    assert_eq!(asked.opened().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!opener.is_asked() && !opener.is_open());
    answered.write_all(b"x").await.unwrap();
}

#[tokio::test]
async fn a_relay_passes_on_a_reset_of_a_stream_that_had_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (app, left) = tokio::join!(connecting, listener.accept());
    let (mut app, (left, _)) = (app.unwrap(), left.unwrap());
    let (opener, incoming, mut drivers) = connection();
    let work = async {
        let (near, mut far) = pair(&opener, &incoming).await;
        far.shutdown().await.unwrap();
        let progress = Progress::default();
        let others = async {
            // The end has arrived.
            assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
            far.reset();
            app.read(&mut [0]).await.map_err(|error| error.kind())
        };
        let relay = relay_inside(left, near, Duration::from_mins(1), &progress);
        let (relayed, _) = tokio::join!(relay, others);
        assert!(matches!(relayed, Relayed { right: End::Reset, left: End::Cut }), "{relayed:?}");
    };
    moving(&mut drivers, work).await;
}

const LARGE: usize = 4 << 20;
