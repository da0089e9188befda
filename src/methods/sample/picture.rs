//! Small pictures in every format that a model may decode: gradients, in `pictures/`.

use crate::engine::content::PictureFormat;
use std::borrow::Cow;

/// The size of a picture: some models cut a piece of a certain size out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// 32×32.
    Small,
    /// 224×224.
    Large,
}

/// Returns an encoded picture.
pub(super) fn encoded(format: PictureFormat, size: Size) -> Cow<'static, [u8]> {
    let file: &[u8] = match (format, size) {
        (PictureFormat::Jpeg, Size::Small) => include_bytes!("pictures/32.jpg"),
        (PictureFormat::Jpeg, Size::Large) => include_bytes!("pictures/224.jpg"),
        (PictureFormat::Png, Size::Small) => include_bytes!("pictures/32.png"),
        (PictureFormat::Png, Size::Large) => include_bytes!("pictures/224.png"),
        (PictureFormat::Gif, Size::Small) => include_bytes!("pictures/32.gif"),
        (PictureFormat::Gif, Size::Large) => include_bytes!("pictures/224.gif"),
        (PictureFormat::WebP, Size::Small) => include_bytes!("pictures/32.webp"),
        (PictureFormat::WebP, Size::Large) => include_bytes!("pictures/224.webp"),
        (PictureFormat::Bmp, Size::Small) => return bitmap(32).into(),
        (PictureFormat::Bmp, Size::Large) => return bitmap(224).into(),
    };
    file.into()
}

/// Returns a BMP file of `side`×`side` pixels, 24 bits each, all black: it is not compressed, so made when needed.
/// `side` is a multiple of four, as rows are padded to that.
fn bitmap(side: u32) -> Vec<u8> {
    const HEADERS: u32 = 14 + 40;
    let pixels = side * side * 3;
    let mut file = b"BM".to_vec();
    // File header: bytes in all, reserved, start of the pixels. Picture header: its bytes, width, height.
    for field in [HEADERS + pixels, 0, HEADERS, 40, side, side] {
        file.extend(field.to_le_bytes());
    }
    // Planes, bits per pixel; then no compression, bytes of the pixels, resolution, and no palette.
    for field in [1u16, 24] {
        file.extend(field.to_le_bytes());
    }
    for field in [0, pixels, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    file.resize((HEADERS + pixels) as usize, 0);
    file
}
