use bytes::Bytes;

use super::*;
use crate::http::body::{Held, Transformer};

#[tokio::test(start_paused = true)]
async fn bytes_pass_at_their_rate_and_nothing_is_lost() {
    let bytes: Vec<u8> = (0..10 * 1024_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut body = Body::Held(Held::new(Bytes::from(bytes.clone())));
    let rate = NonZeroU64::new(4).expect("not zero");
    body.transform(Transformer::Pace(Pace::new(rate)));
    let begin = Instant::now();
    let mut passed = Vec::new();
    let mut largest = 0;
    while body.next().await.expect("whole") == Piece::Data {
        largest = largest.max(body.data().len());
        passed.extend_from_slice(body.data());
        // What a second allows may pass at once, after a second of silence.
        if passed.len() > 4096 && passed.len() < 4096 + 300 {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
    assert_eq!(passed, bytes);
    assert_eq!(largest, 4096);
    let took = begin.elapsed();
    // A second's worth, three seconds, another second's worth at once, the rest.
    assert!((Duration::from_millis(4400)..Duration::from_millis(4700)).contains(&took), "{took:?}");
}
