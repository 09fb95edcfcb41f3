//! Parses any bytes as the answers of an API server in protobuf. Nothing may panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::bytes::Bytes;
use rulegen_model::Kind;
use rulegen_model::protobuf::{
    FRAME_PREFIX, event, frame_length, labels, list, object, status, typed,
};

fuzz_target!(|input: &[u8]| {
    let input = Bytes::copy_from_slice(input);
    read(&input);
    let mut frames = input;
    while let Some(length) = frame_length(&frames).filter(|length| *length < frames.len()) {
        let mut frame = frames.split_to((FRAME_PREFIX + length).min(frames.len()));
        match event(&frame.split_off(FRAME_PREFIX)) {
            Ok(event) => read(&event.object),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn read(bytes: &Bytes) {
    let Ok(typed) = typed(bytes) else { return };
    let _ = status(&typed.raw);
    let items = list(&typed.raw).map(|list| list.items).unwrap_or_default();
    for raw in items.iter().chain([&typed.raw]) {
        let _ = labels(raw);
        for kind in Kind::ALL {
            if let Err(problem) = object(kind, raw).object {
                assert!(!problem.to_string().contains('\n'));
            }
        }
    }
}
