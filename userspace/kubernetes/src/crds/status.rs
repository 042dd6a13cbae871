//! The schemas of `status`: `PolicyStatus` of the Gateway API (GEP-713), and the mesh's.

use serde_json::{Value, json};

/// A policy's status: one entry for each target and controller.
pub(super) fn of_policy() -> Value {
    json!({
        "type": "object",
        "description": "What has become of it. Written by controllers.",
        "required": ["ancestors"],
        "properties": {
            "ancestors": {
                "type": "array",
                "description": "How the policy is for each of its targets. At most 16; more targets share an entry.",
                // As upstream has it: two controllers must read before they write.
                "x-kubernetes-list-type": "atomic",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["ancestorRef", "conditions", "controllerName"],
                    "properties": {
                        "ancestorRef": ancestor(),
                        "controllerName": {
                            "type": "string",
                            "description": "Who wrote the entry: weft.dev/controller.",
                            "minLength": 1,
                            "maxLength": 253,
                        },
                        "conditions": conditions("Accepted: whether the policy is valid and holds. Programmed: whether nodes have it."),
                    },
                },
            },
        },
    })
}

/// The status of the MeshConfig.
pub(super) fn of_mesh() -> Value {
    let count = |description: &str| json!({"type": "integer", "format": "int32", "minimum": 0, "description": description});
    json!({
        "type": "object",
        "description": "What has become of it. Written by the controller.",
        "properties": {
            "conditions": conditions("Accepted: whether the settings are valid. Programmed: whether nodes have them."),
            "trustDomain": {
                "type": "string",
                "maxLength": 255,
                "description": "The trust domain of all identities of the mesh.",
            },
            "nodes": {
                "type": "object",
                "description": "The nodes of the mesh.",
                "properties": {
                    "desired": count("Nodes that an agent should run on."),
                    "ready": count("Nodes whose agent runs and has these settings."),
                },
            },
        },
    })
}

fn ancestor() -> Value {
    let name = |description: &str| json!({"type": "string", "maxLength": 253, "description": description});
    json!({
        "type": "object",
        "description": "The target that the entry is about.",
        "required": ["name"],
        "properties": {
            "group": name("Its API group."),
            "kind": name("Its kind."),
            "namespace": name("Its namespace."),
            "name": name("Its name."),
            "sectionName": name("The rule of the route, where the policy is for one rule."),
            "port": {
                "type": "integer",
                "format": "int32",
                "minimum": 1,
                "maximum": 65535,
                "description": "Its port, where the policy is for one port.",
            },
        },
    })
}

/// `metav1.Condition`s by type.
fn conditions(description: &str) -> Value {
    json!({
        "type": "array",
        "description": description,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "maxItems": 8,
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "What the condition is about, in CamelCase.",
                    "minLength": 1,
                    "maxLength": 316,
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "Why, as one word of a closed list.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, for people, with the remedy.",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The metadata.generation that the condition is about.",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status changed last.",
                },
            },
        },
    })
}
