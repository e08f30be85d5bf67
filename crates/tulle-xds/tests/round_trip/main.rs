//! What the model can say survives the wire, in the same bytes each time.

mod generate;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tulle_model::resource::Resource;
use tulle_xds::{decode, encode};

fn check(resource: &Resource) -> Result<(), TestCaseError> {
    let any = encode::resource(resource);
    prop_assert_eq!(any.type_url.as_str(), decode::type_url(resource.kind()));
    prop_assert_eq!(decode::name_of(&any.value), Some(resource.name().to_owned()));
    let decoded = decode::resource(resource.kind(), &any.value);
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
        resource in generate::any(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode::resource(&resource).value.to_vec();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = decode::resource(resource.kind(), &bytes.clone().into()) {
            let again = encode::resource(&decoded.value).value;
            let twice = decode::resource(resource.kind(), &again);
            prop_assert_eq!(&twice.map_err(|e| TestCaseError::fail(e.to_string()))?.value, &decoded.value);
        }
        bytes.truncate(at);
        let _ = decode::resource(resource.kind(), &bytes.into());
    }
}
