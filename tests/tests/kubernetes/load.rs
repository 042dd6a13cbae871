//! Load out of a pod, which goes on whatever happens to API server, kubelet and containerd.

use weft_tests::eventually;

use crate::agents::PATIENCE;
use crate::stage::{IMAGE, Stage};

/// A pod, with a container for each kind of load.
pub(crate) struct Load<'a> {
    stage: &'a Stage,
    kinds: Vec<&'static str>,
}

/// What one kind of load has seen so far.
pub(crate) struct Tally {
    pub(crate) kind: &'static str,
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    /// All of it, and what failed last.
    pub(crate) line: String,
}

impl<'a> Load<'a> {
    /// HTTP by new and by kept connections, gRPC and bytes, to the Service `to`; out of the mesh's pod `load` on `node`.
    #[track_caller]
    pub(crate) fn start(stage: &'a Stage, to: &str, node: &str) -> Self {
        let kinds = [
            ("http-new", format!("http://{to}/, --fresh")),
            ("http-kept", format!("http://{to}/")),
            ("grpc-new", format!("grpc://{to}:7070, --fresh")),
            ("grpc-kept", format!("grpc://{to}:7070")),
            ("tcp-new", format!("tcp://{to}:9090, --fresh")),
            ("tcp-kept", format!("tcp://{to}:9090")),
        ];
        let container = |(name, args): &(&str, String)| {
            format!(
                "  - {{name: {name}, image: {IMAGE}, imagePullPolicy: IfNotPresent, command: [/client, load], \
                 args: [{args}]}}\n"
            )
        };
        let containers = kinds.iter().map(container).collect::<Vec<_>>().concat();
        stage.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: load, labels: {{app: load}}}}\nspec:\n  nodeName: {node}\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n{containers}"
        ));
        let load = Self { stage, kinds: kinds.map(|(name, _)| name).to_vec() };
        stage.ok(&["wait", "pod/load", "--for=condition=Ready", "--timeout=60s"]);
        load.some_more(SOME);
        load
    }

    /// Waits until each kind has made `more` requests more.
    #[track_caller]
    pub(crate) fn some_more(&self, more: u64) {
        for kind in &self.kinds {
            let goal = self.tally(kind).map_or(0, |tally| tally.asked) + more;
            eventually(PATIENCE, || self.tally(kind).is_some_and(|tally| tally.asked >= goal));
        }
    }

    /// What there is to tell so far, of all kinds.
    #[track_caller]
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        self.kinds.iter().map(|kind| self.tally(kind).expect("it has told before")).collect()
    }

    /// Nothing has failed so far.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        self.assert_whole_since(&[]);
    }

    /// Nothing has failed since there was that to tell.
    #[track_caller]
    pub(crate) fn assert_whole_since(&self, before: &[Tally]) {
        let known = |kind| before.iter().find(|tally| tally.kind == kind).map_or(0, |tally| tally.failed);
        let all = self.tallies().into_iter().filter(|tally| tally.failed > known(tally.kind));
        let failed: Vec<_> = all.map(|tally| tally.line).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }

    /// Ends, and with it the connections that it keeps.
    #[track_caller]
    pub(crate) fn end(&self) {
        self.stage.ok(&["delete", "pod", "load", "--wait"]);
    }

    fn tally(&self, kind: &'static str) -> Option<Tally> {
        let said = self.stage.kubectl(&["logs", "load", "--container", kind, "--tail=1"]).ok()?;
        let line = said.lines().last()?.to_owned();
        let number = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
        Some(Tally {
            kind,
            asked: number("asked=")?,
            failed: number("failed=")?,
            line: format!("{kind}: {line}"),
        })
    }
}

/// Enough to be sure that each kind works.
const SOME: u64 = 30;
