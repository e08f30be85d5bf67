//! What the model can say survives the wire, in the same bytes each time.

#![expect(clippy::unwrap_used, reason = "the inputs are written here")]

mod generate;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tulle_model::resource::Resource;
use tulle_xds::fields::UnknownFields;
use tulle_xds::{decode, encode};

fn check(resource: &Resource) -> Result<(), TestCaseError> {
    let any = encode::resource(resource);
    prop_assert_eq!(any.type_url.as_str(), decode::type_url(resource.kind()));
    prop_assert_eq!(decode::name_of(&any.value), Some(resource.name().to_owned()));
    let decoded = decode::resource(resource.kind(), &any.value, UnknownFields::Warn);
    let decoded = decoded.map_err(|found| TestCaseError::fail(found.to_string()))?;
    prop_assert_eq!(&decoded.value, resource);
    prop_assert_eq!(decoded.warnings, vec![]);
    prop_assert_eq!(encode::resource(&decoded.value).value, any.value);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn listeners_come_back(resource in generate::listener()) {
        check(&resource)?;
    }

    #[test]
    fn routes_come_back(resource in generate::routes()) {
        check(&resource)?;
    }

    #[test]
    fn clusters_come_back(resource in generate::cluster()) {
        check(&resource)?;
    }

    #[test]
    fn endpoints_come_back(resource in generate::endpoints()) {
        check(&resource)?;
    }

    /// Bytes that no encoder wrote are refused or understood, and never a panic.
    #[test]
    fn any_bytes_are_survived(
        resource in generate::resource(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode::resource(&resource).value.to_vec();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        let changed = bytes.clone().into();
        if let Ok(decoded) = decode::resource(resource.kind(), &changed, UnknownFields::Warn) {
            let again = encode::resource(&decoded.value).value;
            let twice = decode::resource(resource.kind(), &again, UnknownFields::Warn);
            let twice = twice.map_err(|found| TestCaseError::fail(found.to_string()))?;
            prop_assert_eq!(&twice.value, &decoded.value);
        }
        bytes.truncate(at);
        let _ = decode::resource(resource.kind(), &bytes.into(), UnknownFields::Warn);
    }
}

/// Bytes of a fixed choice of resources. Run with this variable, a test prints them.
const PRINT: &str = "TULLE_TEST_PRINT_ENCODED";

fn encoded() -> String {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let strategy = generate::resource();
    let one = |_| {
        let resource = strategy.new_tree(&mut runner).unwrap().current();
        format!("{:?}", encode::resource(&resource).value)
    };
    (0..64).map(one).collect::<Vec<_>>().join("\n")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how one test process talks to another")]
fn two_processes_write_the_same_bytes() {
    let here = encoded();
    if std::env::var_os(PRINT).is_some() {
        println!("{here}");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "two_processes_write_the_same_bytes", "--nocapture"])
        .env(PRINT, "1")
        .output()
        .unwrap();
    let there = String::from_utf8(output.stdout).unwrap();
    assert!(there.contains(&here), "the other process wrote {} bytes", there.len());
}
