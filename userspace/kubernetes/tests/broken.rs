//! Every manifest in `tests/broken` is wrong in one way: exactly that is reported, and nothing else
//! is lost. Each file says in its first lines what is expected:
//!
//! ```text
//! # line: 9
//! # field: spec.rules[0].action
//! # message: a part of the message
//! # remedy: a part of the remedy (optional)
//! # severity: Warning (optional; the default is Error)
//! ```
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use weft_kubernetes::{ManifestSource, Options, analyze};
use weft_model::{Problem, Severity, Snapshot};

struct Expected {
    name: String,
    text: String,
    line: u32,
    field: String,
    message: String,
    remedy: String,
    severity: Severity,
}

#[test]
fn every_broken_manifest_is_reported_as_it_should_be_and_nothing_else_is_lost() {
    let cases = broken();
    assert!(cases.len() >= 200, "only {} broken manifests", cases.len());
    let good = load(&good());
    assert!(good.problems.is_empty(), "the good set has problems: {:#?}", good.problems);
    assert!(good.services.len() >= 2 && !good.workloads.is_empty() && !good.policies.is_empty());
    let try_all = |cases: &[Expected]| cases.iter().flat_map(|case| try_out(case, &good)).collect();
    let try_all = &try_all;
    // The kernel takes its time to let go of an inotify instance: wait for many at once.
    let wrong: Vec<Vec<String>> = thread::scope(|scope| {
        let threads: Vec<_> = cases.chunks(10).map(|cases| scope.spawn(move || try_all(cases))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.concat().is_empty(), "\n{}", wrong.concat().join("\n"));
}

#[test]
fn analyze_says_the_same_as_the_agent_without_one() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert!(analyze(&[directory.join("good")]).is_empty());
    let case = broken().into_iter().find(|case| case.name == "authz-cidr-host-bits").unwrap();
    let file = directory.join("broken/authz-cidr-host-bits.yaml");
    let problems = analyze(&[file.clone(), directory.join("good")]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].file, file.display().to_string());
    assert_eq!((problems[0].line, &problems[0].field), (case.line, &case.field));
    let missing = analyze(&[directory.join("nowhere.yaml")]);
    assert!(missing[0].message.contains("cannot read the file"), "{missing:?}");
}

fn try_out(case: &Expected, good: &Snapshot) -> Vec<String> {
    let mut beside = self::good();
    beside.push(("z-broken.yaml".into(), case.text.clone()));
    let mut wrong = judge(case, &load(&beside), good, 0, "z-broken.yaml");

    // In one file with good objects: the line moves, and those objects are there as before.
    let mut within = self::good();
    let (_, shop) = within.iter_mut().find(|(name, _)| name == "shop.yaml").unwrap();
    let above = u32::try_from(shop.lines().count()).unwrap() + 1;
    *shop = format!("{shop}---\n{}", case.text);
    wrong.extend(judge(case, &load(&within), good, above, "shop.yaml"));
    wrong
}

fn judge(case: &Expected, snapshot: &Snapshot, good: &Snapshot, above: u32, file: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let [problem] = &snapshot.problems[..] else {
        wrong.push(format!("{} in {file}: expected one problem, found {:#?}", case.name, snapshot.problems));
        return wrong;
    };
    let Problem { severity, file: named, line, field, message, remedy, .. } = problem;
    let as_expected = *severity == case.severity
        && named.ends_with(file)
        && *line == case.line + above
        && *field == case.field
        && message.contains(&case.message)
        && remedy.contains(&case.remedy)
        && !remedy.is_empty();
    if !as_expected {
        let expected = (case.line + above, &case.field, &case.message, &case.remedy);
        wrong.push(format!("{}: expected {expected:?}, found {problem:#?}", case.name));
    }
    let lost = good.services.iter().any(|(name, service)| snapshot.services.get(name) != Some(service))
        || good.workloads.iter().any(|(name, pod)| snapshot.workloads.get(name) != Some(pod))
        || good.policies.iter().any(|(name, policy)| snapshot.policies.get(name) != Some(policy))
        || (&good.trust_domain, &good.locality) != (&snapshot.trust_domain, &snapshot.locality);
    if lost {
        wrong.push(format!("{} in {file}: a good object is lost or changed", case.name));
    }
    wrong
}

fn load(files: &[(String, String)]) -> Arc<Snapshot> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        // Old enough that nobody can be writing it still.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    }
    let (_source, snapshots) = ManifestSource::open(directory.path(), Options::of("n1")).unwrap();
    Arc::clone(&snapshots.borrow())
}

fn good() -> Vec<(String, String)> {
    read("tests/good").into_iter().map(|(path, text)| (file_name(&path), text)).collect()
}

fn broken() -> Vec<Expected> {
    read("tests/broken").into_iter().map(|(path, text)| expected(&path, text)).collect()
}

fn expected(path: &Path, text: String) -> Expected {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let header = |key: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let needed = |key| header(key).unwrap_or_else(|| panic!("{name} does not say its {key}"));
    Expected {
        line: needed("line").parse().unwrap(),
        field: needed("field"),
        message: needed("message"),
        remedy: header("remedy").unwrap_or_default(),
        severity: if header("severity").is_some() { Severity::Warning } else { Severity::Error },
        name: name.clone(),
        text,
    }
}

fn read(directory: &str) -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
