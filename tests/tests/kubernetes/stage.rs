//! A namespace of a test's own, with pods that answer and ask. It goes with the test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use weft_tests::eventually;

use crate::agents::{self, PATIENCE};
use crate::cluster;

/// The namespace.
pub(crate) struct Stage {
    pub(crate) namespace: String,
}

/// Pods of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Echo<'a> {
    pub(crate) name: &'a str,
    /// Label `app`, and the ServiceAccount.
    pub(crate) app: &'a str,
    pub(crate) replicas: u8,
    /// Where they have to run.
    pub(crate) node: Option<&'a str>,
    /// More of the container, as YAML.
    pub(crate) container: &'a str,
}

impl<'a> Echo<'a> {
    /// One pod, anywhere, of the app that is called like it.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, app: name, replicas: 1, node: None, container: READY_AT_ONCE }
    }
}

impl Stage {
    /// In the mesh.
    #[track_caller]
    pub(crate) fn open(name: &str) -> Self {
        let stage = Self::outside(name);
        stage.enrol();
        stage
    }

    /// In the mesh: Services `api`, `api-v1` and `api-v2`, and a client `web`.
    #[track_caller]
    pub(crate) fn two_versions(name: &str) -> Self {
        let stage = Self::open(name);
        stage.start(&[
            Echo { app: "api", ..Echo::new("api-v1") },
            Echo { app: "api", ..Echo::new("api-v2") },
            Echo::new("web"),
        ]);
        stage.service("api", "app: api", "");
        stage.service("api-v1", "app: api, version: api-v1", "");
        stage.service("api-v2", "app: api, version: api-v2", "");
        agents::enrolled(&stage.namespace, 3);
        stage
    }

    /// Not in the mesh.
    #[track_caller]
    pub(crate) fn outside(name: &str) -> Self {
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("weft-test-{name}-{}-{number}", std::process::id());
        cluster::ok(&["create", "namespace", &namespace]);
        Self { namespace }
    }

    /// Labels the namespace.
    #[track_caller]
    pub(crate) fn enrol(&self) {
        cluster::ok(&["label", "namespace", &self.namespace, "weft.dev/mesh=enabled", "--overwrite"]);
    }

    /// Applies a manifest whose objects name no namespace; `NAMESPACE` is replaced.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) {
        cluster::apply(&self.namespace, &manifest.replace("NAMESPACE", &self.namespace));
    }

    /// Whatever kubectl does in this namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(args);
        cluster::kubectl(&all)
    }

    /// The same where nothing may go wrong.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.kubectl(args).unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
    }

    /// Starts pods and waits until all are ready.
    #[track_caller]
    pub(crate) fn start(&self, all: &[Echo<'_>]) {
        for echo in all {
            self.apply(&deployment(echo));
        }
        for echo in all {
            self.rolled_out(echo.name);
        }
    }

    /// Waits until the Deployment is as it should be.
    #[track_caller]
    pub(crate) fn rolled_out(&self, name: &str) {
        let name = format!("deployment/{name}");
        if let Err(error) = self.kubectl(&["rollout", "status", &name, "--timeout=120s"]) {
            let there = self.kubectl(&["describe", "pods"]).unwrap_or_default();
            panic!("{error}{there}");
        }
    }

    /// A Service of all ports of the pods that `selector` matches, with more of its `spec`.
    #[track_caller]
    pub(crate) fn service(&self, name: &str, selector: &str, more: &str) {
        let text = SERVICE.replace("${NAME}", name).replace("${SELECTOR}", selector);
        self.apply(&format!("{text}{more}"));
        // Before its endpoints nothing would answer, whatever the mesh does.
        eventually(PATIENCE, || {
            let selector = format!("kubernetes.io/service-name={name}");
            let slices = self.ok(&["get", "endpointslices", "--selector", &selector, "--output=yaml"]);
            slices.contains("ready: true") || more.contains("publishNotReadyAddresses")
        });
        // What has no address is nothing to the mesh.
        if !more.contains("clusterIP: None") {
            agents::enforced("services", &self.namespace, name, |_| true);
        }
    }

    /// Names of the pods of an app.
    #[track_caller]
    pub(crate) fn pods(&self, app: &str) -> Vec<String> {
        let selector = format!("app={app}");
        let names =
            self.ok(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[*].metadata.name}"]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// The address of a pod of the app.
    #[track_caller]
    pub(crate) fn address(&self, app: &str) -> String {
        let selector = format!("app={app}");
        self.ok(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[0].status.podIP}"])
    }

    /// One request out of a pod of the Deployment `from`; an error where it has no answer.
    pub(crate) fn ask(&self, from: &str, args: &[&str]) -> Result<Answer, String> {
        let from = format!("deployment/{from}");
        let mut all = vec!["exec", &from, "--container", "echo", "--", "client"];
        all.extend(args);
        self.kubectl(&all).map(|text| Answer { text })
    }

    /// The same where it has to be answered.
    #[track_caller]
    pub(crate) fn answer(&self, from: &str, args: &[&str]) -> Answer {
        self.ask(from, args).unwrap_or_else(|error| panic!("{from} asks {args:?}: {error}"))
    }

    /// So many requests, one after the other.
    #[track_caller]
    pub(crate) fn answers(&self, from: &str, count: usize, args: &[&str]) -> Vec<Answer> {
        let count = format!("--count={count}");
        let mut all = args.to_vec();
        all.push(&count);
        let text = self.answer(from, &all).text;
        text.split("\n\n").map(|one| Answer { text: one.to_owned() }).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            let there = self.kubectl(&["get", "pods,services,endpointslices", "--output=wide"]);
            eprintln!("in {}:\n{}", self.namespace, there.unwrap_or_else(|error| error));
            if std::env::var_os("WEFT_KEEP").is_some() {
                return;
            }
        }
        let _ = cluster::kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// What a request was answered with.
pub(crate) struct Answer {
    pub(crate) text: String,
}

impl Answer {
    /// The status.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.field("StatusCode").and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {}", self.text))
    }

    /// The name of the pod that answered; empty where none did.
    pub(crate) fn pod(&self) -> &str {
        self.field("Hostname").and_then(|name| name.split(' ').next()).unwrap_or_default()
    }

    /// Whether a pod of that Deployment answered.
    pub(crate) fn is_of(&self, deployment: &str) -> bool {
        self.pod().strip_prefix(deployment).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// A header of the request, as it came to the server.
    pub(crate) fn asked_with(&self, name: &str) -> Option<&str> {
        self.header("RequestHeader", name)
    }

    /// A header of the answer.
    pub(crate) fn says(&self, name: &str) -> Option<&str> {
        self.header("ResponseHeader", name)
    }

    fn header(&self, kind: &str, name: &str) -> Option<&str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix('='));
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// The Deployment as a manifest.
pub(crate) fn deployment(echo: &Echo<'_>) -> String {
    let node = echo.node.map_or_else(String::new, |node| format!("nodeName: {node}"));
    DEPLOYMENT
        .replace("${NAME}", echo.name)
        .replace("${APP}", echo.app)
        .replace("${REPLICAS}", &echo.replicas.to_string())
        .replace("${NODE}", &node)
        .replace("${CONTAINER}", echo.container)
}

/// So that requests to a Service `api` go through the proxy.
pub(crate) const ROUTED: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 80}]
  rules: [{backendRefs: [{name: api, port: 80}]}]
";
/// Lets ServiceAccount `web` of the stage alone ask pods of the app `api`.
pub(crate) const ONLY_WEB: &str = "
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: only-web}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: NAMESPACE, name: web}}]}]
";
/// The tests' own image, which `cargo xtask cluster` brings to its nodes.
pub(crate) const IMAGE: &str = "weft.dev/cluster/echo:v1";
/// Probes that a pod has where a test says nothing of them.
pub(crate) const READY_AT_ONCE: &str = "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}";
const DEPLOYMENT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${APP}}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${NAME}}
spec:
  replicas: ${REPLICAS}
  selector: {matchLabels: {app: ${APP}, version: ${NAME}}}
  template:
    metadata: {labels: {app: ${APP}, version: ${NAME}}}
    spec:
      ${NODE}
      serviceAccountName: ${APP}
      terminationGracePeriodSeconds: 10
      containers:
      - name: echo
        image: weft.dev/cluster/echo:v1
        imagePullPolicy: IfNotPresent
        args: [--port=8080, --grpc=7070, --tcp=9090, --drain=3s]
        ${CONTAINER}
";
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: ${NAME}}
spec:
  selector: {${SELECTOR}}
  ports:
  - {name: http, port: 80, targetPort: 8080, appProtocol: http}
  - {name: grpc, port: 7070, appProtocol: kubernetes.io/h2c}
  - {name: tcp, port: 9090}
";
