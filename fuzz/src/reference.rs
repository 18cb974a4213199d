//! Ignore files by the letter: no states, no prefixes, no shortcuts.

use graph::ignore::IgnoreList;

/// Whether `path` is left out, and which rules matched it (moby/patternmatcher:
/// `MatchesUsingParentResults`).
pub(crate) fn decide(list: &IgnoreList, path: &str) -> (bool, Vec<bool>) {
    let above = match path.rsplit_once('/') {
        Some((parent, _)) => decide(list, parent).1,
        None => vec![false; list.rules.len()],
    };
    let text: Vec<char> = path.chars().collect();
    let mut excluded = false;
    let mut matched = above;
    for (rule, matched) in list.rules.iter().zip(&mut matched) {
        // Not asked where it could change nothing.
        if !*matched && rule.negated == excluded {
            *matched = matches_rule(&rule.pattern, &text);
        }
        if *matched {
            excluded = !rule.negated;
        }
    }
    (excluded, matched)
}

fn matches_rule(pattern: &str, path: &[char]) -> bool {
    let chars: Vec<char> = pattern.chars().collect();
    // `**` and then plain text that is no directory matches by suffix.
    if let ['*', '*', plain @ ..] = chars.as_slice()
        && !plain.starts_with(&['/'])
        && !plain.iter().any(|c| "*?[]\\".contains(*c))
    {
        return path.ends_with(plain);
    }
    matches(&chars, path)
}

fn matches(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/'] | ['*', '*'] => true,
        // Any directories, or none.
        ['*', '*', '/', rest @ ..] | ['*', '*', rest @ ..] => {
            let below = (0..path.len()).filter(|at| path[*at] == '/');
            matches(rest, path) || below.into_iter().any(|at| matches(rest, &path[at + 1..]))
        }
        ['*', rest @ ..] => {
            let part = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=part).any(|at| matches(rest, &path[at..]))
        }
        ['?', rest @ ..] => matches!(path, [c, after @ ..] if *c != '/' && matches(rest, after)),
        ['[', rest @ ..] => {
            let [c, after @ ..] = path else { return false };
            let (fits, rest) = class(rest, *c);
            fits && matches(rest, after)
        }
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => {
            matches!(path, [c, after @ ..] if c == literal && matches(rest, after))
        }
    }
}

/// Whether `c` is in the class whose `[` is behind, and what follows the class.
fn class(pattern: &[char], c: char) -> (bool, &[char]) {
    let (negated, mut rest) = match pattern {
        ['^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut fits = false;
    let mut first = true;
    while first || rest.first() != Some(&']') {
        first = false;
        let (low, after) = member(rest);
        (rest, fits) = match after {
            ['-', after @ ..] => {
                let (high, after) = member(after);
                (after, fits || (low..=high).contains(&c))
            }
            _ => (after, fits || low == c),
        };
    }
    (fits != negated, &rest[1..])
}

/// One character of a class; patterns that are refused do not come here.
fn member(pattern: &[char]) -> (char, &[char]) {
    match pattern {
        ['\\', c, rest @ ..] | [c, rest @ ..] => (*c, rest),
        [] => unreachable!("a class without an end is refused"),
    }
}
