//! What each command shows, byte by byte. After a wanted change: `BLESS=1 cargo test -p weft-cli`.

use std::{fs, path::Path};

use crate::shop::Shop;
use weft_cli::Exit;

/// File, command, and the width of the screen (0: a pipe).
pub(crate) const PAGES: &[(&str, &str, u16)] = &[
    ("status.160", "status", 160),
    ("status.80", "status", 80),
    ("status.pipe", "status", 0),
    ("proxy-upgrade", "proxy upgrade", 80),
    ("services.80", "get services", 80),
    ("services.pipe", "get svc", 0),
    ("endpoints.80", "get endpoints", 80),
    ("endpoints.pipe", "get endpoints -n shop", 0),
    ("workloads.80", "get workloads", 80),
    ("workloads.pipe", "get pods", 0),
    ("policies.80", "get policies", 80),
    ("policies.pipe", "get policies", 0),
    ("connections.80", "get connections", 80),
    ("connections.160", "get connections", 160),
    ("certificates.160", "get certificates", 160),
    ("certificates.80", "get certs", 80),
    ("certificates.json", "get certificates -o json", 0),
    ("services.json", "get services -o json", 0),
    ("policies.yaml", "get policies -o yaml", 0),
    ("httproutes.80", "get httproutes", 80),
    ("httproutes.pipe", "get httproute -n shop", 0),
    ("httproutes.json", "get httproutes -o json", 0),
    ("grpcroutes.pipe", "get grpcroutes", 0),
    ("tlsroutes.pipe", "get tlsroutes", 0),
    ("tlsroutes.yaml", "get tlsroutes -o yaml", 0),
    ("describe-pod.160", "describe pod shop/api-1", 160),
    ("describe-pod.80", "describe pod shop/api-1", 80),
    ("describe-service.80", "describe service shop/api", 80),
    ("describe-httproute.80", "describe httproute shop/canary", 80),
    ("observe.80", "observe", 80),
    ("observe.pipe", "observe", 0),
    ("observe.json", "observe --last 1 -o json", 0),
    (
        "explain-http.80",
        "explain --from shop/web-1 --to shop/api:80 --path /v1/items -H x-canary:_yes -H x-user:_7",
        80,
    ),
    ("explain-none.80", "explain --from shop/web-1 --to shop/api:80 --path /v1", 80),
    ("explain-kernel.80", "explain --from shop/web-1 --to shop/db:5432", 80),
    ("explain-kernel.json", "explain --from shop/web-1 --to shop/db:5432 -o json", 0),
    ("authz-allowed", "authz check --from shop/web --to shop/api:80", 80),
    ("authz-denied", "authz check --from shop/cart --to shop/api:80", 80),
    ("authz-supposed", "authz check --from shop/nobody --to shop/api:80", 80),
    ("bpf-services.80", "bpf services", 80),
    ("bpf-services.json", "bpf services -o json", 0),
];

/// As [`PAGES`], of an agent whose proxy told of requests.
const BUSY: &[(&str, &str, u16)] = &[
    ("observe-http.80", "observe --protocol http", 80),
    ("observe-http.pipe", "observe --last 6", 0),
    ("observe-http.json", "observe --protocol HTTP --status 4xx -o json", 0),
];

#[tokio::test]
async fn every_page_is_as_its_file_says() {
    let (open, busy) = (Shop::open(), Shop::busy());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden");
    let mut wrong = Vec::new();
    let pages = PAGES.iter().map(|page| (&open, page)).chain(BUSY.iter().map(|page| (&busy, page)));
    for (shop, (name, line, width)) in pages {
        let answer = shop.ask_on(line, (*width > 0).then_some(*width), false).await;
        let file = folder.join(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &answer.out).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != answer.out {
            wrong.push(format!("{name}: weft {line}\n{}{:?} {:?}", answer.out, answer.err, answer.exit));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, PAGES.len() + BUSY.len(), "each file belongs to a page");
}

#[tokio::test]
async fn no_line_is_longer_than_the_screen_as_far_as_names_allow() {
    let shop = Shop::open();
    for (name, line, width) in PAGES.iter().filter(|page| page.0.ends_with(".160")) {
        let answer = shop.ask_on(line, Some(*width), false).await;
        let longest = answer.out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= usize::from(*width), "{name}: {longest}\n{}", answer.out);
    }
}

#[tokio::test]
async fn colour_is_for_terminals_and_only_paints() {
    let shop = Shop::open();
    let plain = shop.ask_on("observe", Some(160), false).await.out;
    let painted = shop.ask_on("observe", Some(160), true).await.out;
    assert!(!plain.contains('\u{1b}'));
    assert!(painted.contains("\u{1b}[31mDENIED\u{1b}[0m"));
    assert_eq!(anstream::adapter::strip_str(&painted).to_string(), plain);
    assert!(matches!(shop.ask("observe").await.exit, Ok(Exit::Yes)));
}
