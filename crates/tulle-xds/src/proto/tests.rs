use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;

use super::envoy::config::core::v3::Metadata;
use super::envoy::config::listener::v3::Listener;
use super::*;

#[test]
fn every_packed_message_is_described_under_its_name() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let mut seen = BTreeSet::new();
    for url in TYPE_URLS {
        let name = url.strip_prefix("type.googleapis.com/").unwrap();
        assert!(pool.get_message_by_name(name).is_some(), "{name} is not described");
        assert!(seen.insert(url), "{url} twice");
    }
}

#[test]
fn a_packed_message_comes_back() {
    let listener = Listener { name: "in".to_owned(), ..Listener::default() };
    let any = pack(&listener);
    assert_eq!(unpack::<Listener>(&any).unwrap(), listener);
}

#[test]
fn a_packed_message_is_not_taken_for_another() {
    let any = pack(&Listener::default());
    let error = unpack::<envoy::config::cluster::v3::Cluster>(&any).unwrap_err();
    assert!(matches!(error, UnpackError::Type { .. }), "{error}");
    let broken = Any { value: Bytes::from_static(&[0xff]), ..any };
    let error = unpack::<Listener>(&broken).unwrap_err();
    assert!(matches!(error, UnpackError::Malformed { .. }), "{error}");
}

#[test]
fn a_trimmed_field_is_still_seen() {
    // Listener.udp_listener_config is field 18 and not read; its content is one unknown field.
    let bytes: &[u8] = &[0x92, 0x01, 0x02, 0x08, 0x01];
    let listener = Listener::decode(bytes).unwrap();
    assert_eq!(listener.udp_listener_config, Some(Unsupported {}));
}

#[test]
fn equal_maps_have_equal_bytes() {
    let encode = |keys: &[&str]| {
        let fields = keys.iter().map(|key| ((*key).to_owned(), Default::default()));
        let message = Metadata { filter_metadata: fields.collect(), ..Metadata::default() };
        message.encode_to_vec()
    };
    assert_eq!(encode(&["a", "b", "c"]), encode(&["c", "a", "b"]));
}
