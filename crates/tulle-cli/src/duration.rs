//! Times as people write them on a command line: `500ms`, `20s`, `5m`, `1h`.

use std::time::Duration;

/// Reads a number with its unit.
///
/// # Errors
/// When there is no number, no unit, or an unknown one; the sentence says what is wanted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || format!("{text}: write a number with its unit, such as 500ms, 20s, 5m or 1h");
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn numbers_need_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "1d", "1e99h", "NaNs"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
