//! Configuration that could forge headers.

use tulle_lab::envoy::Program;

/// A value that could forge a header is no configuration.
#[tokio::test]
async fn configured_values_with_line_ends_are_refused() {
    let refused = |value: &str| {
        let config = super::CONFIG.replace("value: a-b", &format!("value: \"{value}\""));
        let ports = tulle_lab::oracle::template::placeholders(&config);
        let ports = ports.into_iter().zip(20_000..).collect();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, tulle_lab::oracle::template::fill(&config, &ports)).unwrap();
        Program::Tulle.validate(&file).unwrap().is_err()
    };
    assert!(!refused("a-b"));
    for value in ["a\\r\\nx-evil: 1", "a\\nb", "a\\0b"] {
        assert!(refused(value), "{value}");
    }
}
