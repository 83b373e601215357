//! The functions and operators that there are.

/// What `success()` and its like are.
pub(super) fn is_gate(name: &str) -> bool {
    matches!(name, "success" | "failure" | "always")
}

/// Functions, without the loops and `has`.
pub(super) const FUNCTIONS: [&str; 15] = [
    "always",
    "bool",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "failure",
    "int",
    "machines",
    "matches",
    "size",
    "startsWith",
    "string",
    "success",
    "uint",
];

pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// As it is written, from the library's names.
pub(super) fn operator_named(name: &str) -> Option<&'static str> {
    Some(match name {
        "_+_" | "add" => "+",
        "_-_" | "sub" => "-",
        "_*_" | "mul" => "*",
        "_/_" | "div" => "/",
        "_%_" | "rem" => "%",
        "_==_" => "==",
        "_!=_" => "!=",
        "_<_" => "<",
        "_<=_" => "<=",
        "_>_" => ">",
        "_>=_" => ">=",
        "_&&_" => "&&",
        "_||_" => "||",
        "_[_]" => "[]",
        "@in" => "in",
        "!_" => "!",
        "-_" => "-",
        "_?_:_" => "? :",
        _ => return None,
    })
}
