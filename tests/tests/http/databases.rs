//! Databases behind Services that go through the proxy: real servers, real clients, nothing of HTTP.
//!
//! The clients of Redis and `PostgreSQL` speak first, the server of `MariaDB` does. Each is asked at three Services: one
//! whose port says nothing and has a route, one whose port says nothing and has a circuit breaker, one whose port says
//! what it is.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weft_tests::{Agent, Node, Pod, Running, World, manifests, soon, text};

#[test]
fn redis_is_asked_through_the_proxy() {
    let Some(stage) = Stage::open(&REDIS, |dir, server| {
        let config = format!(
            "port {PORT}\nbind 0.0.0.0\nprotected-mode no\nsave \"\"\ndir {}\nlogfile log\n",
            dir.display()
        );
        fs::write(dir.join("redis.conf"), config).unwrap();
        as_nobody(server, dir, "exec redis-server redis.conf")
    }) else {
        return;
    };
    for service in SERVICES {
        let (host, port) = (service.ip(), service.port());
        let ask = |rest: &str| stage.ask(&format!("redis-cli -h {host} -p {port} {rest}"));
        assert_eq!(ask("set greeting hello").trim(), "OK");
        assert_eq!(ask("get greeting").trim(), "hello");
        assert_eq!(ask(&format!("eval \"return string.rep('x', {LARGE})\" 0")).trim().len(), LARGE);
        let stored = stage.ask(&format!("{} | redis-cli -h {host} -p {port} -x set large", letters(LARGE)));
        assert_eq!(stored.trim(), "OK");
        assert_eq!(ask("strlen large").trim(), LARGE.to_string());
        at_once(|number| {
            let answer = ask(&format!("incrby counter-{port}-{number} {number}"));
            assert_eq!(ask(&format!("get counter-{port}-{number}")), answer);
        });
    }
}

#[test]
fn postgresql_is_asked_through_the_proxy() {
    let Some(stage) = Stage::open(&POSTGRESQL, postgresql) else { return };
    for service in SERVICES {
        let psql = psql(service, "disable");
        let ask = |query: &str| stage.ask(&format!("{psql} -c \"{query}\""));
        assert_eq!(ask("select 6 * 7").trim(), "42");
        let rows = ask(&format!("select repeat('x', {}) from generate_series(1, 8)", LARGE / 8));
        assert_eq!(rows.lines().map(str::len).collect::<Vec<_>>(), [LARGE / 8; 8]);
        let written =
            format!("{{ printf \"select length('\"; {}; printf \"');\"; }} | {psql}", letters(LARGE));
        assert_eq!(stage.ask(&written).trim(), LARGE.to_string());
        at_once(|number| {
            assert_eq!(ask(&format!("select {number}, pg_sleep(0.2)")).trim(), format!("{number}|"));
        });
    }
}

#[test]
fn whether_a_connection_to_postgresql_is_tls_is_between_client_and_server() {
    let Some(stage) = Stage::open(&POSTGRESQL, postgresql) else { return };
    let is_tls = "-c \"select ssl from pg_stat_ssl where pid = pg_backend_pid()\"";
    for service in SERVICES {
        // The server says no to the request for TLS.
        assert_eq!(stage.ask(&format!("{} {is_tls}", psql(service, "prefer"))).trim(), "f");
        let refused = stage.client.exec(&["sh", "-c", &format!("{} {is_tls}", psql(service, "require"))]);
        assert!(text(&refused).contains("server does not support SSL"), "{}", text(&refused));
    }
    let direct = psql(stage.server.addr(PORT), "disable");
    stage.ask(&format!("{direct} -c 'alter system set ssl = on' -c 'select pg_reload_conf()'"));
    soon(|| stage.ask(&format!("{direct} -c 'show ssl'")).trim() == "on");
    for service in SERVICES {
        assert_eq!(stage.ask(&format!("{} {is_tls}", psql(service, "require"))).trim(), "t");
        let rows = format!("{} -c \"select repeat('x', {LARGE})\"", psql(service, "require"));
        assert_eq!(stage.ask(&rows).trim().len(), LARGE);
    }
}

#[test]
fn mariadb_is_asked_through_the_proxy_and_greets_without_waiting_for_its_client() {
    let Some(stage) = Stage::open(&MARIADB, mariadb) else { return };
    for service in SERVICES {
        let asked = Instant::now();
        let mut silent = stage.client.tcp_connect(service).unwrap();
        // Length, number, and the version of the protocol.
        let mut greeting = [0; 5];
        silent.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting[3..], [0, 10], "no greeting of MariaDB: {greeting:?}");
        assert!(asked.elapsed() < GREETING, "it took {:?}", asked.elapsed());
        let client = mysql(service);
        let ask = |query: &str| stage.ask(&format!("{client} -e \"{query}\""));
        assert_eq!(ask("select 6 * 7").trim(), "42");
        let rows = ask(&format!("select repeat('x', {}) from seq_1_to_8", LARGE / 8));
        assert_eq!(rows.lines().map(str::len).collect::<Vec<_>>(), [LARGE / 8; 8]);
        let written =
            format!("{{ printf \"select length('\"; {}; printf \"');\"; }} | {client}", letters(LARGE));
        assert_eq!(stage.ask(&written).trim(), LARGE.to_string());
        at_once(|number| {
            assert_eq!(ask(&format!("select {number}, sleep(0.2)")).trim(), format!("{number}\t0"));
        });
    }
}

/// A client pod, a pod with one database, and the three Services before it. Dropped from top to bottom.
struct Stage {
    _agent: Agent,
    client: Pod,
    _database: Running,
    server: Pod,
    _node: Node,
    _world: World,
    dir: TempDir,
}

/// A database as its Services and its clients know it.
struct Database {
    app_protocol: &'static str,
    /// Succeeds once it answers.
    ping: fn(SocketAddr) -> String,
}

impl Stage {
    fn open(database: &Database, start: impl Fn(&Path, &Pod) -> Running) -> Option<Self> {
        let world = World::new()?;
        let node = world.node("a");
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        for (name, at, said) in
            [("routed", 0, None), ("bounded", 1, None), ("said", 2, Some(database.app_protocol))]
        {
            world.apply(&format!("{name}.yaml"), &service(name, SERVICES[at].ip(), said));
        }
        let client = node.pod("shop/client").start();
        let server = node.pod("shop/db").label("app", "db").start();
        let dir = tempfile::tempdir().expect("a folder can be made");
        run(Command::new("chown").arg("nobody").arg(dir.path()));
        let running = start(dir.path(), &server);
        let stage = Self {
            _agent: node.agent(),
            client,
            _database: running,
            server,
            _node: node,
            _world: world,
            dir,
        };
        let ping = (database.ping)(stage.server.addr(PORT));
        soon(|| stage.client.exec(&["sh", "-c", &ping]).status.success());
        for service in SERVICES {
            soon(|| goes_through_the_proxy(&stage.client, service));
        }
        Some(stage)
    }

    /// What a command of the client prints.
    #[track_caller]
    fn ask(&self, command: &str) -> String {
        let output = self.client.exec(&["sh", "-c", command]);
        assert!(output.status.success(), "{command}: {}", text(&output));
        String::from_utf8(output.stdout).expect("letters and digits are asked for")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- log of the database\n{log}---");
        }
    }
}

/// A Service, and what has its connections leave the kernel's path: a route, or a setting.
fn service(name: &str, ip: IpAddr, app_protocol: Option<&str>) -> String {
    let said = app_protocol.map(|protocol| format!(", appProtocol: {protocol}")).unwrap_or_default();
    let spec = format!("{{clusterIP: {ip}, selector: {{app: db}}, ports: [{{port: {PORT}{said}}}]}}");
    let target = format!("{{group: \"\", kind: Service, name: {name}}}");
    let name = format!("shop/{name}");
    let setting = if name == "shop/routed" {
        let backend = format!("{{name: routed, port: {PORT}}}");
        let spec = format!("{{parentRefs: [{target}], rules: [{{backendRefs: [{backend}]}}]}}");
        manifests::http_route(&name, &spec)
    } else {
        manifests::traffic_policy(&name, &format!("{{targetRefs: [{target}], circuitBreaker: {{}}}}"))
    };
    manifests::documents(&[manifests::service(&name, &spec), setting])
}

/// Whether a connection ends at the listener of its own pod, where the proxy accepts.
fn goes_through_the_proxy(client: &Pod, service: SocketAddr) -> bool {
    let Ok(connection) = client.tcp_connect(service) else { return false };
    let address = connection.local_addr().expect("a connected socket has an address");
    let other_end = format!("dport = :{}", address.port());
    let here = client.exec(&["ss", "-Htn", "state", "established", &other_end]);
    !here.stdout.is_empty()
}

fn postgresql(dir: &Path, server: &Pod) -> Running {
    let tools = postgresql_tools().display().to_string();
    as_nobody(
        server,
        dir,
        &format!(
            "{{ {tools}/initdb -D data -U test -A trust -E UTF8 --locale=C --no-sync \
             && echo 'host all all 0.0.0.0/0 trust' >> data/pg_hba.conf \
             && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=db -keyout data/server.key -out data/server.crt; \
             }} > log 2>&1 && exec {tools}/postgres -D data -k '' -h 0.0.0.0 -p {PORT} -c fsync=off \
             -c dynamic_shared_memory_type=mmap >> log 2>&1"
        ),
    )
}

/// Debian keeps them out of the way, by version.
fn postgresql_tools() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut tools = versions.map(|version| version.path().join("bin"));
    let found = tools.find(|tools| tools.join("postgres").is_file());
    found.expect("these tests need PostgreSQL (`cargo xtask setup` installs it)")
}

fn mariadb(dir: &Path, server: &Pod) -> Running {
    // A statement a line.
    let users = "CREATE USER test@'%';\nGRANT ALL ON *.* TO test@'%';\n";
    fs::write(dir.join("users.sql"), users).expect("the folder was just made");
    as_nobody(
        server,
        dir,
        &format!(
            "mariadb-install-db --no-defaults --datadir=$PWD/data --skip-test-db > log 2>&1 \
             && exec mariadbd --no-defaults --datadir=$PWD/data --init-file=$PWD/users.sql --socket=$PWD/socket \
             --pid-file=$PWD/pid --bind-address=0.0.0.0 --port={PORT} --skip-name-resolve \
             --innodb-flush-log-at-trx-commit=0 >> log 2>&1"
        ),
    )
}

/// Runs a shell's command in the pod, in `dir`, as a user of no rights; what it shares in memory goes with it.
fn as_nobody(pod: &Pod, dir: &Path, command: &str) -> Running {
    let command = format!("cd {} && {command}", dir.display());
    let user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
    pod.spawn(&[&["unshare", "--ipc"], &user[..], &["sh", "-c", &command]].concat())
}

fn psql(to: SocketAddr, ssl: &str) -> String {
    let (host, port) = (to.ip(), to.port());
    format!(
        "psql -X -A -t -v ON_ERROR_STOP=1 'host={host} port={port} user=test dbname=postgres sslmode={ssl}'"
    )
}

fn mysql(to: SocketAddr) -> String {
    format!("mariadb --no-defaults -h {} -P {} -u test -D mysql -N -B", to.ip(), to.port())
}

/// A command that writes so many letters.
fn letters(number: usize) -> String {
    format!("head -c {number} /dev/zero | tr '\\0' x")
}

/// Clients at the same time, each with a number.
fn at_once(ask: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let ask = &ask;
            scope.spawn(move || ask(number));
        }
    });
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

const REDIS: Database = Database {
    app_protocol: "redis",
    ping: |to| format!("test \"$(redis-cli -h {} -p {} ping)\" = PONG", to.ip(), to.port()),
};
const POSTGRESQL: Database =
    Database { app_protocol: "tcp", ping: |to| format!("{} -c 'select 1'", psql(to, "disable")) };
const MARIADB: Database =
    Database { app_protocol: "mysql", ping: |to| format!("{} -e 'select 1'", mysql(to)) };

const SERVICES: [SocketAddr; 3] = [vip(1), vip(2), vip(3)];

const fn vip(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 1, last)), PORT)
}

const PORT: u16 = 7000;
const CLIENTS: usize = 8;
/// Bytes of a large value.
const LARGE: usize = 8 << 20;
/// A server that speaks first is heard at once. The proxy's own patience with who says nothing is 5 s.
const GREETING: Duration = Duration::from_secs(2);
