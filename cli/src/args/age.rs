//! `--ttl STEP=AGE`.

use frontend::{StepAge, parse_age};

/// Parses `--ttl`. The last `=` separates: a STEP may be a piece of an instruction and have more.
///
/// # Errors
/// If there is no STEP, or the age is none.
pub fn parse(text: &str) -> Result<StepAge, String> {
    let (step, age) = text
        .rsplit_once('=')
        .filter(|(step, _)| !step.trim().is_empty())
        .ok_or("expected STEP=AGE, such as build=24h or 'apt-get update=7d'")?;
    let age = parse_age(age).ok_or_else(|| {
        format!("{age:?} is not an age (a number with s, m, h, d or w, such as 90s or 7d, or 0)")
    })?;
    Ok(StepAge { step: step.to_owned(), age })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_equals_sign_separates() {
        let got = parse("curl x?a=b=24h").unwrap();
        let age = Duration::from_secs(24 * 3600);
        assert_eq!(got, StepAge { step: "curl x?a=b".to_owned(), age });
        for bad in ["build", "=24h", " =24h", "build=", "build=24", "build=h", "build=-1h", "24h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
