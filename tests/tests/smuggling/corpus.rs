//! The payloads: `tests/smuggling/cases/*.yaml`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Payloads of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    #[expect(dead_code, reason = "it is for people")]
    family: String,
    #[expect(dead_code, reason = "it is for people")]
    why: String,
    cases: Vec<Written>,
}

/// A payload as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    send: String,
    refused: Option<String>,
    #[serde(default)]
    forwards: Forwards,
    #[serde(default)]
    carries: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Forwards {
    Listed(Vec<String>),
    /// `N times REQUEST`
    Counted(String),
}

/// A payload, and what weft makes of it.
pub(crate) struct Payload {
    /// `file: name`
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Status and reason.
    pub(crate) refused: Option<String>,
    /// `METHOD target body` of every request that the upstream gets whole.
    pub(crate) forwards: Vec<String>,
    /// Field lines of the first of them.
    pub(crate) carries: Vec<String>,
    /// Names of fields that the first of them does not have.
    pub(crate) lacks: Vec<String>,
}

impl Default for Forwards {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// All of them.
pub(crate) fn payloads() -> Vec<Payload> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("smuggling/cases");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| of_file(file)).collect()
}

fn of_file(file: &Path) -> Vec<Payload> {
    let text = fs::read_to_string(file).unwrap();
    let kind: Kind =
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    kind.cases.into_iter().map(|written| written.read(&stem)).collect()
}

impl Written {
    fn read(self, file: &str) -> Payload {
        let forwards = match self.forwards {
            Forwards::Listed(requests) => requests,
            Forwards::Counted(text) => {
                let (times, request) = text.split_once(" times ").unwrap();
                vec![request.to_owned(); times.parse().unwrap()]
            }
        };
        Payload {
            name: format!("{file}: {}", self.name),
            bytes: bytes(&self.send),
            refused: self.refused,
            forwards,
            carries: self.carries,
            lacks: self.lacks,
        }
    }
}

/// A character is a byte; `{text*9}` stands for nine times the text.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        bytes.extend(before.chars().map(byte));
        let repeated = from[1..].split_once('}').and_then(|(inside, behind)| {
            let (text, times) = inside.rsplit_once('*')?;
            Some((text, times.parse::<usize>().ok()?, behind))
        });
        let Some((text, times, behind)) = repeated else {
            bytes.push(b'{');
            rest = &from[1..];
            continue;
        };
        for _ in 0..times {
            bytes.extend(text.chars().map(byte));
        }
        rest = behind;
    }
    bytes.extend(rest.chars().map(byte));
    bytes
}

fn byte(character: char) -> u8 {
    u8::try_from(u32::from(character)).expect("characters of a payload are bytes: \\x00 to \\xff")
}

#[test]
fn a_payload_is_bytes_and_may_repeat() {
    assert_eq!(bytes("a{b\r\n*2}{c}\u{e9}{"), b"ab\r\nb\r\n{c}\xe9{");
}
