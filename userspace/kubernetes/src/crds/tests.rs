//! What can be said of the CRDs without an API server. What a server says is in `tests/admission`.

use serde_json::Value;
use weft_model::MtlsMode;

use super::crds;

const LARGEST: usize = 200 * 1024;

#[test]
fn names_and_columns_are_those_that_are_documented() {
    let lines: Vec<String> = crds().iter().map(describe).collect();
    let expected = [
        "meshconfigs.weft.dev mc Cluster - | TRUST-DOMAIN .status.trustDomain | MTLS .spec.mtls.mode \
         | NODES .status.nodes.desired | READY .status.nodes.ready | AGE .metadata.creationTimestamp",
        "trafficpolicies.weft.dev tp Namespaced Inherited | TARGET-KIND .spec.targetRefs[0].kind \
         | TARGET .spec.targetRefs[0].name | LB .spec.loadBalancer.type \
         | ACCEPTED .status.ancestors[0].conditions[?(@.type==\"Accepted\")].status \
         | PROGRAMMED .status.ancestors[0].conditions[?(@.type==\"Programmed\")].status \
         | AGE .metadata.creationTimestamp",
        "authorizationpolicies.weft.dev authz Namespaced Direct | ACTION .spec.action | MODE .spec.mode \
         | TARGET .spec.targetRefs[0].kind \
         | ACCEPTED .status.ancestors[0].conditions[?(@.type==\"Accepted\")].status \
         | PROGRAMMED .status.ancestors[0].conditions[?(@.type==\"Programmed\")].status \
         | AGE .metadata.creationTimestamp",
        "authenticationpolicies.weft.dev authn Namespaced Inherited | MTLS .spec.mtls.mode \
         | TARGET .spec.targetRefs[0].kind \
         | ACCEPTED .status.ancestors[0].conditions[?(@.type==\"Accepted\")].status \
         | AGE .metadata.creationTimestamp",
        "telemetrypolicies.weft.dev telemetry Namespaced Inherited | TRACING .spec.tracing.mode \
         | SAMPLING .spec.tracing.samplingRate | ACCESS-LOG .spec.accessLog.mode \
         | ACCEPTED .status.ancestors[0].conditions[?(@.type==\"Accepted\")].status \
         | AGE .metadata.creationTimestamp",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn every_column_shows_a_field_that_the_schema_has() {
    for crd in crds() {
        let version = &crd["spec"]["versions"][0];
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            // `[?(…)]` and `[0]` both are one of a list.
            let path = path
                .replace("[?(@.type==\"Accepted\")]", "[0]")
                .replace("[?(@.type==\"Programmed\")]", "[0]");
            let mut schema = &version["schema"]["openAPIV3Schema"];
            for word in path.trim_start_matches('.').split('.').take_while(|_| !path.starts_with(".metadata"))
            {
                schema = match word.strip_suffix("[0]") {
                    Some(list) => &schema["properties"][list]["items"],
                    None => &schema["properties"][word],
                };
                assert!(schema.is_object(), "{path} of {}", crd["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn every_field_says_what_it_is() {
    for_each_schema(|place, schema| {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let text = property["description"].as_str().unwrap_or_default();
            let ours = place != "metadata" && name != "metadata";
            assert!(!ours || (text.len() > 2 && text.ends_with('.')), "{place}.{name}: \"{text}\"");
            assert!(
                !text.contains('[') || !text.contains('`'),
                "{place}.{name} is written for rustdoc: {text}"
            );
        }
    });
}

#[test]
fn an_api_server_knows_every_word_of_a_schema() {
    const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];
    for_each_schema(|place, schema| {
        for word in ["nullable", "anyOf", "oneOf", "$ref", "const", "title", "$defs", "additionalItems"] {
            assert!(schema.get(word).is_none(), "{place} has {word}");
        }
        assert!(schema["type"].is_string(), "{place} has no type: {schema}");
        let format = schema.get("format").map(|format| format.as_str().unwrap());
        assert!(format.is_none_or(|format| FORMATS.contains(&format)), "{place}: {format:?}");
        let words = schema["enum"].as_array().into_iter().flatten();
        assert!(words.clone().all(Value::is_string), "{place}: {schema}");
    });
}

#[test]
fn everything_that_a_rule_could_count_has_a_bound() {
    for_each_schema(|place, schema| {
        let bounds = match schema["type"].as_str().unwrap() {
            "array" => ["maxItems", "maxItems"],
            "string" if schema["format"] == "date-time" => return,
            "string" => ["maxLength", "enum"],
            "integer" if place.starts_with("spec") => ["maximum", "maximum"],
            "object" if schema.get("additionalProperties").is_some() => ["maxProperties", "maxProperties"],
            _ => return,
        };
        let of_root = ["apiVersion", "kind"].contains(&place);
        assert!(
            of_root || bounds.iter().any(|bound| schema.get(bound).is_some()),
            "{place} has no {bounds:?}"
        );
    });
}

#[test]
fn every_rule_has_a_message_with_a_remedy() {
    for_each_schema(|place, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap();
            assert!(message.contains(": ") && !message.contains('\n'), "{place}: {message}");
            // Only then is the field known to a server.
            let path = rule["fieldPath"].as_str().unwrap_or_default();
            let names = path.split('.').filter(|name| !name.is_empty());
            let field = names.fold(schema, |schema, name| &schema["properties"][name]);
            assert!(field.is_object(), "{place}: there is no {path}");
        }
    });
}

#[test]
fn each_definition_fits_where_kubectl_keeps_the_last_one() {
    for crd in crds() {
        let size = serde_yaml::to_string(&crd).unwrap().len();
        assert!(size < LARGEST, "{} has {size} bytes", crd["metadata"]["name"]);
    }
}

#[test]
fn modes_of_mutual_tls_are_those_that_are_read() {
    let crd = crds().remove(0);
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let words = spec["properties"]["mtls"]["properties"]["mode"]["enum"].as_array().unwrap();
    let quoted: Vec<_> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect();
    let error = serde_json::from_value::<MtlsMode>("none".into()).unwrap_err().to_string();
    assert!(error.ends_with(&format!("expected one of {}", quoted.join(", "))), "{error}");
}

fn describe(crd: &Value) -> String {
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let policy = text("/metadata/labels/gateway.networking.k8s.io~1policy");
    let names = [text("/metadata/name"), text("/spec/names/shortNames/0"), text("/spec/scope"), policy];
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().iter();
    let columns = columns.map(|column| {
        let [name, path] = ["name", "jsonPath"].map(|field| column[field].as_str().unwrap());
        format!("{name} {path}")
    });
    [names.join(" ")].into_iter().chain(columns).collect::<Vec<_>>().join(" | ")
}

/// Calls `check` with each schema of all CRDs, and the field it is of.
fn for_each_schema(check: impl Fn(&str, &Value)) {
    fn walk(place: &str, schema: &Value, check: &impl Fn(&str, &Value)) {
        check(place, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            walk(&place, property, check);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(below) {
                walk(&format!("{place}[]"), inner, check);
            }
        }
    }
    for crd in crds() {
        walk("", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &check);
    }
}
