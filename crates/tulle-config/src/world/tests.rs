use super::*;

#[test]
fn an_empty_world_differs_from_none() {
    let empty = World::new(Arc::default(), [], []);
    assert!(Changes::between(&empty, &empty).is_empty());
}
