//! What each file declares, and which declaration of an object is in force.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher as _},
    io,
    sync::Arc,
};

use weft_model::{Problem, RouteName, RouteReason, Severity};

use crate::{
    build::Notice,
    decode::{Declared, Decoded, decode, decode_object},
    document::{Text, documents},
    finding::Finding,
    object::{Key, Names, Object},
};

/// All files and what they declare.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    files: BTreeMap<Arc<str>, File>,
    objects: HashMap<Key, Claims>,
    /// Objects that are declared more than once.
    doubled: BTreeSet<Key>,
    /// Routes whose declaration that counts is refused.
    refused: BTreeSet<Key>,
    /// Objects whose declarations have changed since they were last settled.
    unsettled: BTreeSet<Key>,
    names: Names,
}

#[derive(Debug, Default)]
struct File {
    documents: Vec<Document>,
    /// Objects of documents that cannot be read any more: their last good versions stay in force.
    held: Vec<Arc<Declared>>,
    /// What is wrong with the file itself, then with its objects.
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Document {
    /// Of its text, to know it again.
    hash: u64,
    first_line: u32,
    decoded: Decoded,
}

#[derive(Debug, Default)]
struct Claims {
    /// Who declares it, the one that counts first.
    declared: Vec<(Arc<str>, Arc<Declared>)>,
    in_force: Option<Object>,
}

impl Catalog {
    /// Takes over the text of a file, reading only the documents that are new in it.
    pub(crate) fn put(&mut self, name: &Arc<str>, text: &str) {
        let parts = documents(text).into_iter();
        self.replace(name, parts.map(|part| (hash(part.text), part.first_line, part.text)), decode);
    }

    /// Takes over an object of an API server, which is a file of its own, under `name`. Its problems name no file.
    pub(crate) fn put_object(&mut self, name: &Arc<str>, object: &serde_json::Value) {
        self.replace(name, std::iter::once((hash(object), 0, object)), decode_object);
    }

    /// Whether all that `name` declares can be in force.
    pub(crate) fn is_good(&self, name: &str) -> bool {
        let good = |file: &File| file.documents.iter().all(|document| document.decoded.is_good());
        self.files.get(name).is_some_and(good)
    }

    /// Takes over what is in a file now: of each document its hash, its line, and what `decode` reads where it is new.
    fn replace<T>(
        &mut self,
        name: &Arc<str>,
        parts: impl Iterator<Item = (u64, u32, T)>,
        decode: impl Fn(T, &mut Names) -> Decoded,
    ) {
        let old = self.files.remove(name).unwrap_or_default();
        let mut known: HashMap<u64, Vec<Document>> = HashMap::new();
        for document in old.documents {
            known.entry(document.hash).or_default().push(document);
        }
        let mut touched = HashSet::new();
        let mut file = File::default();
        for (hash, first_line, part) in parts {
            let document = known.get_mut(&hash).and_then(Vec::pop);
            let document = document.unwrap_or_else(|| {
                let decoded = decode(part, &mut self.names);
                touched.extend(decoded.declared.iter().map(|declared| declared.key.clone()));
                Document { hash, first_line: 0, decoded }
            });
            file.documents.push(Document { first_line, ..document });
        }
        let gone = known.into_values().flatten().flat_map(|document| document.decoded.declared);
        let gone: Vec<_> = gone.chain(old.held).collect();
        touched.extend(gone.iter().map(|declared| declared.key.clone()));
        if file.documents.iter().any(|document| document.decoded.is_unreadable()) {
            let there: HashSet<_> = file.declared().map(|declared| declared.key.clone()).collect();
            file.held =
                gone.into_iter().filter(|old| old.object.is_some() && !there.contains(&old.key)).collect();
        }
        file.problems = file.problems(name);
        self.claim(name, &file, &touched);
        self.files.insert(Arc::clone(name), file);
    }

    /// Takes over what reading a file gave.
    pub(crate) fn put_bytes(&mut self, name: &Arc<str>, bytes: io::Result<Vec<u8>>) {
        match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => self.put(name, &text),
            Ok(Err(_)) => self.put_unreadable(name, "the file is not UTF-8 text".into()),
            Err(error) => self.put_unreadable(name, format!("cannot read the file: {error}")),
        }
    }

    /// Keeps what the file declared before, and notes why it cannot be read now.
    pub(crate) fn put_unreadable(&mut self, name: &Arc<str>, message: String) {
        let file = self.files.entry(Arc::clone(name)).or_default();
        let remedy = "make the file readable; what it held before stays in force".into();
        let finding = Finding { severity: Severity::Error, field: String::new(), line: 0, message, remedy };
        let problems = file.problems(name);
        file.problems = vec![problem(name, 1, String::new(), &finding)];
        file.problems.extend(problems);
    }

    /// Forgets a file and all that only it declares.
    pub(crate) fn remove(&mut self, name: &Arc<str>) {
        let Some(file) = self.files.remove(name) else { return };
        let touched = file.declared().map(|declared| declared.key.clone()).collect();
        self.claim(name, &File::default(), &touched);
    }

    /// The changes of objects since the last call.
    pub(crate) fn settle(&mut self) -> Vec<(Key, Option<Object>)> {
        let mut changes = Vec::new();
        for key in std::mem::take(&mut self.unsettled) {
            let Some(claims) = self.objects.get_mut(&key) else { continue };
            if claims.declared.len() > 1 {
                self.doubled.insert(key.clone())
            } else {
                self.doubled.remove(&key)
            };
            if claims.declared.first().is_some_and(|(_, declared)| declared.refusal.is_some()) {
                self.refused.insert(key.clone())
            } else {
                self.refused.remove(&key)
            };
            if claims.declared.is_empty() {
                self.objects.remove(&key);
                changes.push((key, None));
                continue;
            }
            let first = claims.declared.iter().position(|(_, declared)| declared.object.is_some());
            match first.and_then(|i| claims.declared[i].1.object.clone()) {
                // The one that counts is broken: its last good version stays in force.
                _ if first != Some(0) && claims.in_force.is_some() => {}
                None => {}
                Some(object) => {
                    claims.in_force = Some(object.clone());
                    changes.push((key, Some(object)));
                }
            }
        }
        changes
    }

    /// The routes whose newest version is refused: why, and in which words.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (RouteName, RouteReason, String)> {
        self.refused.iter().filter_map(|key| {
            let (_, declared) = self.objects.get(key)?.declared.first()?;
            let wrong = declared.findings.iter().find(|finding| finding.severity == Severity::Error)?;
            let place = if wrong.field.is_empty() { String::new() } else { format!("{}: ", wrong.field) };
            Some((key.route()?, declared.refusal?, format!("{place}{}", wrong.message)))
        })
    }

    /// What was found in the declaration of an object that counts, and whether that is refused.
    pub(crate) fn findings(&self, key: &Key) -> (&[Finding], bool) {
        let declared = self.objects.get(key).and_then(|claims| claims.declared.first());
        declared.map_or((&[], false), |(_, declared)| (&declared.findings, declared.object.is_none()))
    }

    /// The version of an object that is in force.
    pub(crate) fn in_force(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)?.in_force.as_ref()
    }

    /// Everything that is wrong, in the order of files and lines.
    pub(crate) fn problems<'n>(&self, notices: impl IntoIterator<Item = &'n Notice>) -> Vec<Problem> {
        let mut problems: Vec<_> = self.files.values().flat_map(|file| &file.problems).cloned().collect();
        for key in &self.doubled {
            problems.extend(self.double(key));
        }
        for Notice { key, finding, .. } in notices {
            let Some((file, declared)) = self.objects.get(key).and_then(|claims| claims.declared.first())
            else {
                continue;
            };
            let line = declared.line_of(&finding.field);
            let finding = Finding { line, ..finding.clone() };
            problems.push(problem(file, self.first_line(file, declared), key.to_string(), &finding));
        }
        problems.sort_by(|a, b| (&a.file, a.line, a).cmp(&(&b.file, b.line, b)));
        problems.dedup();
        problems
    }

    /// The documents of `text`, a file's text now, that are good, and those of `before` whose objects broke
    /// since.
    pub(crate) fn good_text(&self, name: &str, text: &str, before: &str) -> String {
        let Some(file) = self.files.get(name) else { return before.to_owned() };
        let known: HashMap<u64, &Document> = file.documents.iter().map(|d| (d.hash, d)).collect();
        let good = |part: &&Text<'_>| known.get(&hash(part.text)).is_some_and(|d| d.decoded.is_good());
        let mut parts: Vec<&str> = Vec::new();
        let now = documents(text);
        parts.extend(now.iter().filter(good).map(|part| part.text));
        let broken: HashSet<&Key> =
            file.declared_broken().chain(file.held.iter().map(|declared| &declared.key)).collect();
        let old = if broken.is_empty() { Vec::new() } else { documents(before) };
        let holds = |part: &&Text<'_>| {
            let decoded = decode(part.text, &mut Names::default());
            decoded.declared.iter().any(|declared| broken.contains(&declared.key))
        };
        parts.extend(old.iter().filter(holds).map(|part| part.text));
        joined(&parts)
    }

    fn claim(&mut self, name: &Arc<str>, file: &File, touched: &HashSet<Key>) {
        for key in touched {
            let claims = self.objects.entry(key.clone()).or_default();
            claims.declared.retain(|(other, _)| other != name);
            self.unsettled.insert(key.clone());
        }
        for declared in file.declared().filter(|declared| touched.contains(&declared.key)) {
            let claims = self.objects.entry(declared.key.clone()).or_default();
            let at = claims.declared.partition_point(|(other, _)| other <= name);
            claims.declared.insert(at, (Arc::clone(name), Arc::clone(declared)));
        }
    }

    fn double(&self, key: &Key) -> Vec<Problem> {
        let Some(claims) = self.objects.get(key) else { return Vec::new() };
        let Some(((winner, _), losers)) = claims.declared.split_first() else { return Vec::new() };
        let told = |(file, declared): &(Arc<str>, Arc<Declared>)| {
            let finding = Finding {
                severity: Severity::Error,
                field: "metadata.name".into(),
                line: declared.line,
                message: format!("declared already, in {winner}, which counts"),
                remedy: "keep one of the two".into(),
            };
            problem(file, self.first_line(file, declared), key.to_string(), &finding)
        };
        losers.iter().map(told).collect()
    }

    fn first_line(&self, file: &Arc<str>, declared: &Arc<Declared>) -> u32 {
        let documents = self.files.get(file).map(|file| file.documents.as_slice()).unwrap_or_default();
        let holds = |document: &&Document| document.decoded.declared.iter().any(|d| Arc::ptr_eq(d, declared));
        documents.iter().find(holds).map_or(1, |document| document.first_line)
    }
}

impl File {
    fn declared(&self) -> impl Iterator<Item = &Arc<Declared>> {
        self.documents.iter().flat_map(|document| &document.decoded.declared).chain(&self.held)
    }

    fn declared_broken(&self) -> impl Iterator<Item = &Key> {
        let declared = self.documents.iter().flat_map(|document| &document.decoded.declared);
        declared.filter(|declared| declared.object.is_none()).map(|declared| &declared.key)
    }

    fn problems(&self, name: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for Document { decoded, first_line, .. } in &self.documents {
            for (object, finding) in &decoded.stray {
                problems.push(problem(name, *first_line, object.clone(), finding));
            }
            for declared in &decoded.declared {
                let of = |finding| problem(name, *first_line, declared.key.to_string(), finding);
                problems.extend(declared.findings.iter().map(of));
            }
        }
        problems
    }
}

/// A first line of 0 is that of an object which is in no file.
fn problem(file: &str, first_line: u32, object: String, finding: &Finding) -> Problem {
    let line = match (first_line, finding.line) {
        (0, _) => 0,
        (first, 0) => first,
        (first, line) => first + line - 1,
    };
    Problem {
        severity: finding.severity,
        file: if first_line == 0 { String::new() } else { file.to_owned() },
        line,
        object,
        field: finding.field.clone(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

/// Documents as one file. The first of a file may have no `---` line; behind another it needs one.
fn joined(documents: &[&str]) -> String {
    let mut text = String::new();
    for document in documents {
        if !text.is_empty() {
            text.push_str(if text.ends_with('\n') { "" } else { "\n" });
            text.push_str(if document.starts_with("---") { "" } else { "---\n" });
        }
        text.push_str(document);
    }
    text
}

fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
