//! What a release has said, kept in files beside this one, against what today's code says and understands.
//!
//! Programs of two releases meet wherever a mesh is upgraded (docs/lifecycle.md, "Versions"), so of everything that one of
//! them tells another there is a recording here, made by the release that is the folder's name. The three promises, for
//! each: today's code reads it; it would read the same of a release that says more; and today's code says all of it, so
//! that the other one would read that. A recording is made once, and only goes when that release is two versions away:
//! `BLESS=1 cargo test` writes those that are missing, and changes none.

use std::{fmt::Debug, fs, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// The release that is one version away.
const RELEASE: &str = "0.1";

/// Checks the three promises for a value of which that release has made `file`. Objects under the keys in `fixed` have names
/// for keys, and no fields of which there could be more; `""` is the value itself.
#[track_caller]
pub(crate) fn agrees<T>(file: &str, today: &T, fixed: &[&str])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let said = serde_json::to_value(today).expect("it is made of JSON's values");
    let recorded = recorded(file, &said);
    let read = |value: &Value| serde_json::from_value::<T>(value.clone());
    let of_it = read(&recorded).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"));
    assert_eq!(of_it, *today, "{file} is read as something else");
    match read(&newer(&said, fixed)) {
        Ok(of_more) => assert_eq!(of_more, *today, "{file}: more fields make it something else"),
        Err(error) => panic!("{file}: more fields are not read past: {error}, in {:?}", stubborn::<T>(&said)),
    }
    let lost = lost(&recorded, &said);
    assert!(lost.is_empty(), "{file}: that release reads what is not said any more: {lost:?}");
}

/// Where one more field makes the value one that cannot be read.
fn stubborn<T: DeserializeOwned>(value: &Value) -> Vec<String> {
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                found.push(at.to_owned());
                fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        for (key, value) in below {
            places(value, &format!("{at}/{key}"), found);
        }
    }
    let mut all = Vec::new();
    places(value, "", &mut all);
    let is_stubborn = |place: &String| {
        let mut more = value.clone();
        let fields = more.pointer_mut(place).and_then(Value::as_object_mut).expect("it was there");
        fields.insert(MORE.to_owned(), json!({}));
        serde_json::from_value::<T>(more).is_err()
    };
    all.into_iter().filter(is_stubborn).collect()
}

/// The recording `file`; where there is none yet and `BLESS` is set, `today` becomes it.
#[track_caller]
pub(crate) fn recorded(file: &str, today: &Value) -> Value {
    let path =
        [env!("CARGO_MANIFEST_DIR"), "../../tests/releases", RELEASE, file].iter().collect::<PathBuf>();
    if !path.exists() && std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the repository can be written");
        fs::write(&path, format!("{today:#}\n")).expect("the repository can be written");
    }
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}; BLESS=1 makes it", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `value` with one more field in each object that has fields; those under the keys in `fixed` have none.
pub(crate) fn newer(value: &Value, fixed: &[&str]) -> Value {
    fn add(value: &mut Value, fixed: &[&str], is_fixed: bool) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    add(value, fixed, fixed.contains(&key.as_str()));
                }
                if !is_fixed && !has_other_keys(fields) {
                    fields.insert(MORE.to_owned(), json!({"some": ["thing"]}));
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| add(value, fixed, is_fixed)),
            _ => {}
        }
    }
    let mut value = value.clone();
    add(&mut value, fixed, fixed.contains(&""));
    value
}

/// Whether the keys are no fields: names of objects, numbers, what of several things it is, or the two parts of a time.
fn has_other_keys(fields: &Map<String, Value>) -> bool {
    let mut keys = fields.keys();
    let is_choice = fields.len() == 1 && keys.next().is_some_and(|key| key.starts_with(char::is_uppercase));
    let is_name = |key: &String| key.contains('/') || key.bytes().all(|byte| byte.is_ascii_digit());
    is_choice || fields.keys().eq(["nanos", "secs"]) || (!fields.is_empty() && fields.keys().all(is_name))
}

/// A field that no release has.
const MORE: &str = "ofTheNextRelease";

/// Where `recorded` has what `today` has not, or has otherwise.
pub(crate) fn lost(recorded: &Value, today: &Value) -> Vec<String> {
    fn look(recorded: &Value, today: &Value, at: &str, lost: &mut Vec<String>) {
        match (recorded, today) {
            (Value::Object(old), Value::Object(new)) => {
                for (key, old) in old {
                    // What is left out is `null` for whoever reads it.
                    look(old, new.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"), lost);
                }
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    look(old, new, &format!("{at}/{index}"), lost);
                }
            }
            _ if recorded == today => {}
            _ => lost.push(format!("{at}: {recorded} is {today}")),
        }
    }
    let mut found = Vec::new();
    look(recorded, today, "", &mut found);
    found
}
