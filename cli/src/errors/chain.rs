//! An error and its causes as one message.

use std::error::Error;

/// Causes that are followed at most.
const MAX_CAUSES: usize = 16;

/// The message of `error`, with those causes that it does not already tell: `X: Y: Z`.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    for cause in causes(error) {
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    crate::progress::text::clean(&message.replace('\n', " "), false)
}

/// The causes, outermost first.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(error.source(), |e| (*e).source())
        .take(MAX_CAUSES)
        .map(ToString::to_string)
        .collect()
}

/// The first error of type `T` in the chain, `error` itself included.
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |e| (*e).source())
        .take(MAX_CAUSES)
        .find_map(|e| e.downcast_ref::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    #[test]
    fn no_cause_is_told_twice() {
        let inner = Layer { text: "no such file", source: None };
        let middle = Layer { text: "cannot open x: no such file", source: Some(Box::new(inner)) };
        let outer = Layer { text: "step failed\nbadly", source: Some(Box::new(middle)) };
        assert_eq!(message(&outer), "step failed badly: cannot open x: no such file");
        assert_eq!(causes(&outer).len(), 2);
        assert!(find::<Layer>(&outer).is_some() && find::<std::fmt::Error>(&outer).is_none());
    }
}
