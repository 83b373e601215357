//! The syntax tree as the library evaluates it: loops become comprehensions, and what the scope answers by itself
//! (`success()`, `machines(…)`, a selector's labels) becomes a constant or a variable.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue,
    MapEntryExpr, MapExpr, SelectExpr, operators,
};

use super::syntax::{Kind, Loop, Node, Operator};

/// No name of the language can begin with an @.
pub(super) const ADD: &str = "@add";
pub(super) const EACH: &str = "@each";
pub(super) const MATCHES: &str = "@matches";
const RESULT: &str = "@result";

/// A node that the scope answers; None: it is what it is.
pub(super) type Answer<'a> = &'a dyn Fn(&Node) -> Option<Expr>;

/// What the library evaluates for a node.
pub(super) fn lower(node: &Node, answer: Answer<'_>) -> IdedExpr {
    if let Some(answered) = answer(node) {
        return ided(answered);
    }
    let lower = |node: &Node| lower(node, answer);
    ided(match &node.kind {
        Kind::Null => Expr::Literal(LiteralValue::Null),
        Kind::Bool(value) => Expr::Literal(LiteralValue::Boolean((*value).into())),
        Kind::Int(value) => Expr::Literal(LiteralValue::Int((*value).into())),
        Kind::Uint(value) => Expr::Literal(LiteralValue::UInt((*value).into())),
        Kind::Double(value) => Expr::Literal(LiteralValue::Double((*value).into())),
        Kind::Text(value) => text(value),
        Kind::Name(name) => Expr::Ident(name.clone()),
        Kind::Field { of, name } => select(lower(of), name, false),
        Kind::Has { of, name } => select(lower(of), name, true),
        Kind::Index { of, index } => call(operators::INDEX, [lower(of), lower(index)]),
        // The library's compiles its pattern each time and within no bound worth the name.
        Kind::Call {
            function,
            target,
            arguments,
        } if function == "matches" => {
            let parts = target.as_deref().into_iter().chain(arguments);
            call(MATCHES, parts.map(lower))
        }
        Kind::Call {
            function,
            target,
            arguments,
        } => Expr::Call(CallExpr {
            func_name: function.clone(),
            target: target.as_deref().map(lower).map(Box::new),
            args: arguments.iter().map(lower).collect(),
        }),
        Kind::List(elements) => Expr::List(ListExpr::new(elements.iter().map(lower).collect())),
        Kind::Map(entries) => Expr::Map(MapExpr {
            entries: entries
                .iter()
                .map(|(key, value)| IdedEntryExpr {
                    id: 0,
                    expr: EntryExpr::MapEntry(MapEntryExpr {
                        key: lower(key),
                        value: lower(value),
                        optional: false,
                    }),
                })
                .collect(),
        }),
        Kind::Not(of) => call(operators::LOGICAL_NOT, [lower(of)]),
        Kind::Negate(of) => call(operators::NEGATE, [lower(of)]),
        Kind::All(terms) => return balanced(operators::LOGICAL_AND, terms.iter().map(lower).collect()),
        Kind::Any(terms) => return balanced(operators::LOGICAL_OR, terms.iter().map(lower).collect()),
        Kind::Binary {
            operator,
            left,
            right,
        } => call(library_operator(*operator), [lower(left), lower(right)]),
        Kind::If {
            condition,
            then,
            otherwise,
        } => call(
            operators::CONDITIONAL,
            [lower(condition), lower(then), lower(otherwise)],
        ),
        Kind::Loop {
            kind,
            over,
            name,
            only,
            body,
        } => comprehension(
            *kind,
            ided(call(EACH, [lower(over)])),
            name,
            only.as_deref().map(lower),
            lower(body),
        ),
    })
}

/// Source: cel-spec, "Macros"; the forms are those that the library recognizes (errors of single elements are
/// overridden by others in `all` and `exists`, `map` and `filter` append in place).
fn comprehension(kind: Loop, over: IdedExpr, name: &str, only: Option<IdedExpr>, body: IdedExpr) -> Expr {
    let result = || ided(Expr::Ident(RESULT.into()));
    let literal = |value: bool| ided(Expr::Literal(LiteralValue::Boolean(value.into())));
    let int = |value: i64| ided(Expr::Literal(LiteralValue::Int(value.into())));
    let append = |element: IdedExpr| {
        let element = ided(Expr::List(ListExpr::new(vec![element])));
        ided(call(operators::ADD, [result(), element]))
    };
    let when =
        |condition: IdedExpr, step: IdedExpr| ided(call(operators::CONDITIONAL, [condition, step, result()]));
    let not_false = |value: IdedExpr| ided(call(operators::NOT_STRICTLY_FALSE, [value]));
    let (accu_init, loop_cond, loop_step, end) = match kind {
        Loop::All => (
            literal(true),
            not_false(result()),
            ided(call(operators::LOGICAL_AND, [result(), body])),
            result(),
        ),
        Loop::Exists => (
            literal(false),
            not_false(ided(call(operators::LOGICAL_NOT, [result()]))),
            ided(call(operators::LOGICAL_OR, [result(), body])),
            result(),
        ),
        Loop::ExistsOne => (
            int(0),
            literal(true),
            when(body, ided(call(operators::ADD, [result(), int(1)]))),
            ided(call(operators::EQUALS, [result(), int(1)])),
        ),
        Loop::Filter => (
            ided(Expr::List(ListExpr::default())),
            literal(true),
            when(body, append(ided(Expr::Ident(name.to_owned())))),
            result(),
        ),
        Loop::Map => {
            let step = append(body);
            (
                ided(Expr::List(ListExpr::default())),
                literal(true),
                match only {
                    Some(only) => when(only, step),
                    None => step,
                },
                result(),
            )
        }
    };
    Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: over,
        iter_var: name.to_owned(),
        iter_var2: None,
        accu_var: RESULT.into(),
        accu_init,
        loop_cond,
        loop_step,
        result: end,
    }))
}

/// Long chains as flat trees: what is evaluated recurses along them.
fn balanced(function: &str, mut terms: Vec<IdedExpr>) -> IdedExpr {
    if terms.len() < 2 {
        return terms.pop().unwrap_or_default();
    }
    let right = terms.split_off(terms.len().div_ceil(2));
    ided(call(
        function,
        [balanced(function, terms), balanced(function, right)],
    ))
}

fn library_operator(operator: Operator) -> &'static str {
    match operator {
        // The library's takes a map for a list of its keys.
        Operator::Add => ADD,
        Operator::Divide => operators::DIVIDE,
        Operator::Equal => operators::EQUALS,
        Operator::Greater => operators::GREATER,
        Operator::GreaterOrEqual => operators::GREATER_EQUALS,
        Operator::In => operators::IN,
        Operator::Less => operators::LESS,
        Operator::LessOrEqual => operators::LESS_EQUALS,
        Operator::Multiply => operators::MULTIPLY,
        Operator::NotEqual => operators::NOT_EQUALS,
        Operator::Remainder => operators::MODULO,
        Operator::Subtract => operators::SUBSTRACT,
    }
}

pub(super) fn text(value: &str) -> Expr {
    Expr::Literal(LiteralValue::String(value.to_owned().into()))
}

fn select(operand: IdedExpr, field: &str, test: bool) -> Expr {
    Expr::Select(SelectExpr {
        operand: Box::new(operand),
        field: field.to_owned(),
        test,
    })
}

fn call(function: &str, args: impl IntoIterator<Item = IdedExpr>) -> Expr {
    Expr::Call(CallExpr {
        func_name: function.to_owned(),
        target: None,
        args: args.into_iter().collect(),
    })
}

fn ided(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}
