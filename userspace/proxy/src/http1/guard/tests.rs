//! What passes and what does not, as tables.

use super::*;

/// What becomes of requests that all arrive at once.
fn requests(bytes: impl AsRef<[u8]>) -> (Judged, usize) {
    let (mut guard, mut exchange) = (Guard::requests(Limits::default()), Exchange::default());
    let judged = guard.judge(bytes.as_ref(), &mut exchange);
    (judged, exchange.unanswered())
}

/// A request of HTTP/1.1 with these lines behind its Host.
fn with(lines: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a.example\r\n{lines}")
}

#[track_caller]
fn assert_passes(bytes: impl AsRef<[u8]>, messages: usize) {
    let bytes = bytes.as_ref();
    let (judged, seen) = requests(bytes);
    assert_eq!(judged, Judged { pass: bytes.len(), rest: Rest::More }, "{}", bytes.escape_ascii());
    assert_eq!(seen, messages, "{}", bytes.escape_ascii());
}

#[track_caller]
fn assert_refused(bytes: impl AsRef<[u8]>, why: Malformed) {
    let bytes = bytes.as_ref();
    assert_eq!(requests(bytes).0.rest, Rest::Malformed(why), "{}", bytes.escape_ascii());
}

/// What becomes of an answer to a request that `asked`.
fn answer(asked: Asked, bytes: &str) -> (Judged, Exchange) {
    let (mut guard, mut exchange) = (Guard::responses(Limits::default()), Exchange::default());
    exchange.ask(asked);
    (guard.judge(bytes.as_bytes(), &mut exchange), exchange)
}

#[track_caller]
fn assert_answers(asked: Asked, bytes: &str, answered: bool) {
    let (judged, exchange) = answer(asked, bytes);
    assert_eq!(judged, Judged { pass: bytes.len(), rest: Rest::More }, "{bytes:?}");
    assert_eq!(exchange.unanswered() == 0, answered, "{bytes:?}");
}

#[test]
fn every_kind_of_body_ends_where_it_says() {
    assert_passes(with("\r\n"), 1);
    assert_passes(with("Content-Length: 5\r\n\r\nhello"), 1);
    assert_passes(with("content-length:0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"), 2);
    assert_passes(with("Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n"), 2);
    assert_passes(
        with("Transfer-Encoding: chunked\r\n\r\n00a;x=\"\\\"\";y\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"),
        1,
    );
}

#[test]
fn what_looks_like_a_request_inside_a_body_is_body() {
    assert_passes(with("Content-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 1);
    assert_passes(with("Transfer-Encoding: chunked\r\n\r\n12\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n"), 1);
}

#[test]
fn a_head_passes_when_it_is_whole_and_not_before() {
    let head = with("X: 1\r\n\r\n");
    let (mut guard, mut exchange) = (Guard::requests(Limits::default()), Exchange::default());
    for length in 0..head.len() {
        let judged = guard.judge(&head.as_bytes()[..length], &mut exchange);
        assert_eq!(judged, Judged { pass: 0, rest: Rest::More }, "{length}");
    }
    assert_eq!(guard.judge(head.as_bytes(), &mut exchange).pass, head.len());
}

#[test]
fn lines_end_with_cr_lf_and_nothing_else() {
    assert_refused("GET / HTTP/1.1\nHost: a\r\n\r\n", Malformed::BareLf);
    assert_refused(with("X: 1\n\r\n"), Malformed::BareLf);
    assert_refused(with("X: 1\r\n\n"), Malformed::BareLf);
    assert_refused(with("X: 1\rY: 2\r\n\r\n"), Malformed::BareCr);
    assert_refused(with("X\r: 1\r\n\r\n"), Malformed::BareCr);
    assert_refused("GET /\r HTTP/1.1\r\n\r\n", Malformed::BareCr);
    assert_refused("GET / HTTP/1.1\r\r\n\r\n", Malformed::BareCr);
    assert_refused("\nGET / HTTP/1.1\r\n\r\n", Malformed::BareLf);
}

#[test]
fn two_empty_lines_may_stand_before_a_request() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_passes(format!("\r\n\r\n{get}\r\n{get}"), 2);
    assert_refused(format!("\r\n\r\n\r\n{get}"), Malformed::EmptyLines);
}

#[test]
fn a_request_line_has_three_parts_and_two_spaces() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET",
        "GET / ",
    ] {
        assert_refused(format!("{line}\r\n\r\n"), Malformed::RequestLine);
    }
    for line in ["GET / http/1.1", "GET / HTTP/1", "GET / HTTP/1.10", "GET / HTTP/ 1.1", "GET / HTTP/x.1"] {
        let refused = requests(format!("{line}\r\n\r\n")).0.rest;
        assert_eq!(refused, Rest::Malformed(Malformed::RequestLine), "{line}");
    }
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0"] {
        assert_refused(format!("GET / {version}\r\n\r\n"), Malformed::Version);
    }
    assert_refused("G\tET / HTTP/1.1\r\n\r\n", Malformed::Method);
    assert_refused("GET\t/ HTTP/1.1\r\n\r\n", Malformed::RequestLine);
}

#[test]
fn what_is_not_http_is_refused_at_its_first_byte() {
    assert_refused(b"\x16\x03\x01", Malformed::Method);
    assert_refused(b" GET / HTTP/1.1\r\n", Malformed::Method);
    assert_refused(b"\0", Malformed::Method);
}

#[test]
fn a_target_has_the_form_that_its_method_asks_for() {
    let host = |line: &str| format!("{line} HTTP/1.1\r\nHost: a:8\r\n\r\n");
    for line in [
        "GET /",
        "OPTIONS *",
        "GET http://a:8",
        "GET HTTP://A:8/x?y=%",
        "CONNECT a:8",
        "GET /%41?q=a|{b}[c]^",
    ] {
        assert_eq!(requests(host(line)).1, 1, "{line}");
    }
    for line in [
        "GET *",
        "GET a",
        "GET a:8",
        "CONNECT /",
        "CONNECT a",
        "CONNECT a:",
        "GET ftp://a:8/",
        "GET http://u@a:8/",
    ] {
        assert_refused(host(line), Malformed::TargetForm);
    }
    for target in ["/\u{e9}", "/#a", "/\"", "/<", "/\\", "/\x7f", "/\x01", "/%4", "/%", "/%g0"] {
        assert_refused(host(&format!("GET {target}")), Malformed::Target);
    }
}

#[test]
fn what_passes_as_a_target_passes_hypers_parser_too() {
    for byte in 0..=u8::MAX {
        let (path, query) = (format!("/a{}", char::from(byte)), format!("/?{}", char::from(byte)));
        for target in [path, query] {
            let passes = requests(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).1 == 1;
            assert!(!passes || target.parse::<http::Uri>().is_ok(), "{target:?}");
        }
    }
}

#[test]
fn a_request_has_one_host_and_it_is_the_targets() {
    let get = |target: &str, hosts: &str| format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
    assert_refused(get("/", ""), Malformed::HostMissing);
    assert_passes("GET / HTTP/1.0\r\n\r\n", 1);
    assert_refused(get("/", "Host: a\r\nHost: a\r\n"), Malformed::HostRepeated);
    assert_refused("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", Malformed::HostRepeated);
    for host in ["a", "A.b-c_d.e:80", "127.0.0.1:65535", "[::1]", "[fe80::1]:8", "a:"] {
        assert_passes(get("/", &format!("Host: {host}\r\n")), 1);
    }
    for host in [
        "", "a b", "a,b", "a/b", "u@a", "a:b", "a:65536", "a:123456", "[::1", "[x]", "a:1:2", "%61",
        "http://a", ":80",
    ] {
        assert_refused(get("/", &format!("Host: {host}\r\n")), Malformed::HostInvalid);
    }
    assert_passes(get("http://A/x", "Host:\t a:80\r\n"), 1);
    assert_passes(get("https://a:443?", "Host: a \r\n"), 1);
    assert_refused(get("http://a/", "Host: b\r\n"), Malformed::HostConflict);
    assert_refused(get("http://a/", "Host: a:443\r\n"), Malformed::HostConflict);
    assert_refused("CONNECT a:1 HTTP/1.1\r\nHost: a:2\r\n\r\n", Malformed::HostConflict);
}

#[test]
fn a_field_is_a_token_a_colon_and_text() {
    for (line, why) in [
        ("X : 1", Malformed::SpaceBeforeColon),
        ("X\t: 1", Malformed::SpaceBeforeColon),
        (" X: 1", Malformed::Folded),
        ("\tX: 1", Malformed::Folded),
        ("X: 1\r\n 2", Malformed::Folded),
        ("X", Malformed::FieldName),
        (": 1", Malformed::FieldName),
        ("X Y: 1", Malformed::FieldName),
        ("X\0: 1", Malformed::FieldName),
        ("(X): 1", Malformed::FieldName),
        ("X: \0", Malformed::FieldValue),
        ("X: a\x0bb", Malformed::FieldValue),
        ("X: \x7f", Malformed::FieldValue),
        ("Content_Length: 1", Malformed::Lookalike),
        ("transfer_encoding: chunked", Malformed::Lookalike),
        ("Expect: 200-ok", Malformed::Expectation),
        ("Expect: 100-continue, x", Malformed::Expectation),
        ("Expect: 100-continue\r\nExpect: 100-continue", Malformed::Expectation),
    ] {
        assert_refused(with(&format!("{line}\r\n\r\n")), why);
    }
    assert_passes(with("X:\r\nX: \t a\tb \t\r\n!#$%&'*+-.^_`|~: \u{e9}\r\nExpect: 100-Continue\r\n\r\n"), 1);
}

#[test]
fn a_body_has_one_length() {
    for value in [
        "",
        "+1",
        "-1",
        "0x1",
        "1 1",
        "1a",
        "01",
        "00",
        "1.0",
        "1;",
        "9223372036854775808",
        "99999999999999999999",
    ] {
        assert_refused(with(&format!("Content-Length: {value}\r\n\r\n")), Malformed::ContentLength);
    }
    for lines in ["1\r\nContent-Length: 1", "1\r\ncontent-length: 2", "1, 1", "1,"] {
        assert_refused(with(&format!("Content-Length: {lines}\r\n\r\n")), Malformed::ContentLengthRepeated);
    }
    for lines in
        ["Content-Length: 1\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 0"]
    {
        assert_refused(with(&format!("{lines}\r\n\r\n")), Malformed::LengthAndEncoding);
    }
    assert_eq!(requests(with("Content-Length: 9223372036854775807\r\n\r\n")).1, 1);
}

#[test]
fn chunked_is_the_only_encoding() {
    for value in [
        "",
        "identity",
        "xchunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked;q=1",
        "\"chunked\"",
        "gzip",
        "chunked,",
        ", chunked",
    ] {
        assert_refused(with(&format!("Transfer-Encoding: {value}\r\n\r\n")), Malformed::Encoding);
    }
    assert_refused(
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Malformed::Encoding,
    );
    assert_refused(with("Transfer-Encoding: gzip, chunked\r\n\r\n"), Malformed::EncodingUnsupported);
    assert_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::EncodingInHttp10);
}

#[test]
fn a_chunk_is_its_size_and_ends_there() {
    let chunked = |body: &str| with(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"));
    for size in ["", "0x1", "+1", "-1", " 1", "g", "8000000000000000", "00000000000000001", ";a"] {
        assert_refused(chunked(&format!("{size}\r\n")), Malformed::ChunkSize);
    }
    for extension in [
        " ",
        "\t",
        ";",
        "; a",
        ";a ",
        ";a=",
        ";a=b c",
        ";a=\"b",
        ";a=\"\\\"",
        ";a=\"b\"c",
        " ;a",
        ";a\0",
        ";a=\"\r\"",
    ] {
        assert_refused(chunked(&format!("1{extension}\r\n")), Malformed::ChunkExtension);
    }
    for (body, why) in [
        ("1\n", Malformed::BareLf),
        ("1;a\nb\r\n", Malformed::BareLf),
        ("1\r\nab", Malformed::ChunkEnd),
        ("1\r\na\n", Malformed::ChunkEnd),
        ("1\r\na\rb", Malformed::ChunkEnd),
        ("0\r\nX: 1\n\r\n", Malformed::BareLf),
        ("0\r\nX : 1\r\n\r\n", Malformed::SpaceBeforeColon),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Malformed::FieldName),
    ] {
        assert_refused(chunked(body), why);
    }
    assert_refused(chunked(&format!("1;a={}\r\n", "b".repeat(251))), Malformed::ChunkLineTooLong);
    assert_passes(chunked("7fffffffffffffff\r\n"), 1);
}

#[test]
fn trailers_say_nothing_about_framing_routing_or_who_asks() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "authorization",
        "Cookie",
        "X-Forwarded-For",
        "Trailer",
        "x-weft-a",
    ] {
        assert_refused(
            with(&format!("Transfer-Encoding: chunked\r\n\r\n0\r\n{name}: 1\r\n\r\n")),
            Malformed::Trailer,
        );
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_whole() {
    let fields = |count: usize| with(&"X: 1\r\n".repeat(count - 1));
    assert_eq!(requests(fields(100) + "\r\n").1, 1);
    assert_refused(fields(101), Malformed::TooManyFields);
    assert_refused(format!("GET /{}", "a".repeat(8192)), Malformed::TargetTooLong);
    assert_eq!(requests(with(&format!("X: {}\r\n\r\n", "a".repeat(8192 - 5)))).1, 1);
    assert_refused(with(&format!("X: {}", "a".repeat(8192 - 3))), Malformed::FieldTooLong);
    let kilobytes = format!("X: {}\r\n", "a".repeat(8192 - 5));
    assert_refused(with(&kilobytes.repeat(8)), Malformed::HeadTooLarge);
}

#[test]
fn connect_has_no_body_and_what_follows_waits_for_the_answer() {
    assert_refused(
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\n",
        Malformed::BodyForbidden,
    );
    let connect = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    let (judged, _) = requests(format!("{connect}\x16\x03"));
    assert_eq!(judged, Judged { pass: connect.len(), rest: Rest::Held });
}

#[test]
fn what_follows_an_upgrade_is_a_tunnel_or_a_request_by_its_answer() {
    let upgrade = with("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let (mut reads, mut writes) = (Guard::requests(Limits::default()), Guard::responses(Limits::default()));
    let mut exchange = Exchange::default();
    let both = format!("{upgrade}\x01\x02");
    assert_eq!(reads.judge(both.as_bytes(), &mut exchange).rest, Rest::Held);
    writes.judge(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", &mut exchange);
    assert_eq!(reads.judge(b"\x01\x02", &mut exchange), Judged { pass: 2, rest: Rest::More });

    let (mut reads, mut writes) = (Guard::requests(Limits::default()), Guard::responses(Limits::default()));
    let mut exchange = Exchange::default();
    assert_eq!(reads.judge(both.as_bytes(), &mut exchange).rest, Rest::Held);
    writes.judge(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &mut exchange);
    assert_eq!(reads.judge(b"\x01\x02", &mut exchange).rest, Rest::Malformed(Malformed::Method));
}

#[test]
fn no_more_than_128_requests_wait_for_their_answers() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (judged, seen) = requests(get.repeat(200));
    assert_eq!((judged.rest, seen), (Rest::Held, Exchange::MAX_UNANSWERED));
}

#[test]
fn the_framing_of_an_answer_depends_on_what_was_asked() {
    assert_answers(Asked::Plain, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true);
    assert_answers(
        Asked::Plain,
        "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        true,
    );
    assert_answers(Asked::Plain, "HTTP/1.0 200 OK\r\n\r\nuntil the end", false);
    assert_answers(Asked::Head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true);
    assert_answers(Asked::Head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true);
    assert_answers(Asked::Plain, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", true);
    assert_answers(Asked::Plain, "HTTP/1.1 204 No Content\r\n\r\n", true);
    assert_answers(
        Asked::Plain,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
        false,
    );
    assert_answers(Asked::Plain, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n", true);
    assert_answers(Asked::Connect, "HTTP/1.1 200 Yes\r\n\r\n\x16\x03", true);
    assert_answers(Asked::Upgrade, "HTTP/1.1 101 Yes\r\n\r\n\0\0", true);
    assert_answers(Asked::Upgrade, "HTTP/1.1 200 No\r\nContent-Length: 1\r\n\r\na", true);
}

#[test]
fn an_answer_that_nobody_can_frame_for_sure_is_refused() {
    for (asked, bytes, why) in [
        (Asked::Plain, "HTTP/1.1 200 OK\nX: 1\r\n\r\n", Malformed::BareLf),
        (Asked::Plain, "HTTP/1.1  200 OK\r\n\r\n", Malformed::StatusLine),
        (Asked::Plain, "HTTP/1.1 20 OK\r\n\r\n", Malformed::StatusLine),
        (Asked::Plain, "HTTP/1.1 2000 OK\r\n\r\n", Malformed::StatusLine),
        (Asked::Plain, "HTTP/1.1 099 OK\r\n\r\n", Malformed::StatusLine),
        (Asked::Plain, "HTTP/2.0 200 OK\r\n\r\n", Malformed::Version),
        (Asked::Plain, "ICY 200 OK\r\nX: 1\r\n\r\n", Malformed::StatusLine),
        (
            Asked::Plain,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            Malformed::ContentLengthRepeated,
        ),
        (
            Asked::Plain,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Malformed::LengthAndEncoding,
        ),
        (Asked::Plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Malformed::Encoding),
        (Asked::Plain, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::EncodingInHttp10),
        (Asked::Plain, "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n", Malformed::Folded),
        (Asked::Plain, "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n", Malformed::BodyForbidden),
        (
            Asked::Plain,
            "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
            Malformed::BodyForbidden,
        ),
        (Asked::Connect, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", Malformed::BodyForbidden),
        (Asked::Plain, "HTTP/1.1 101 Switching Protocols\r\n\r\n", Malformed::OutOfTurn),
        (Asked::Plain, "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Malformed::OutOfTurn),
    ] {
        assert_eq!(answer(asked, bytes).0.rest, Rest::Malformed(why), "{bytes:?}");
    }
}

#[test]
fn a_guard_that_refused_once_refuses_for_good() {
    let (mut guard, mut exchange) = (Guard::requests(Limits::default()), Exchange::default());
    assert_eq!(guard.judge(b"\0", &mut exchange).rest, Rest::Malformed(Malformed::Method));
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(guard.judge(get, &mut exchange), Judged { pass: 0, rest: Rest::Malformed(Malformed::Method) });
}
