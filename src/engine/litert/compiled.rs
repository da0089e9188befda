//! A model compiled for a number of threads, with the shapes that it was last prepared for. It serves one run at a time.

#![allow(unsafe_code)]

use super::Library;
use super::ffi::{self, Layout, Status, TensorType};
use super::file::MOST_DIMENSIONS;
use super::permits::too_late;
use super::signatures::{Io, Runner};
use super::strings;
use crate::error::{Error, Kind, Result};
use crate::host::memory::MappedWeights;
use crate::tensor::{Aligned, DType, Shape, Tensor, append, element_count};
use smallvec::SmallVec;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Bytes behind an input that LiteRT's kernels may read (`XNN_EXTRA_BYTES`), and the alignment it asks for.
pub(super) const SPARE: usize = 128;
const ALIGNMENT: usize = 64;

/// Room for the strings of an output, whose length is known only after the run. Untouched pages take no memory.
const STRINGS: usize = 64 << 20;

/// Room of which a run has written more is given back to the system after it.
const KEPT: usize = 1 << 20;

/// What outputs hold before a run; a run that writes none of them is suspicious.
const FILLED: u8 = 0xa5;

/// Part of LiteRT's error for an output whose memory is not ours to choose, as its shape is not fixed.
const HAS_NO_PLACE: &str = "allocation_type == kTfLiteArenaRw";

/// Part of LiteRT's error for an output that is larger than it said.
const IS_TOO_SMALL: &str = "Custom allocation is too small";

/// A value for each tensor of a run; up to four need no allocation.
type Few<T> = SmallVec<[T; 4]>;

/// An interpreter.
pub(super) struct Compiled {
    library: &'static Library,
    handle: *mut ffi::CompiledModel,
    /// Asked by LiteRT during a run.
    limit: Box<Limit>,
    prepared: Vec<Prepared>,
    /// Room for strings that no run has.
    strings: Vec<Vec<u8>>,
}

// SAFETY: an interpreter may be used by any thread, by one at a time; `&mut self` sees to that.
unsafe impl Send for Compiled {}

/// What the subgraph of a runner is prepared for.
#[derive(Clone, Default)]
struct Prepared {
    /// The shape of each input; `None` before the first run, and where that is not known.
    inputs: Option<Vec<Shape>>,
    outputs: Vec<Shape>,
    /// The shapes of inputs that it was prepared for last.
    good: Option<Vec<Shape>>,
}

/// When a run has to end.
struct Limit {
    /// In nanoseconds since [`START`].
    end: AtomicU64,
    /// Whether LiteRT was told to stop.
    stopped: AtomicBool,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const NEVER: u64 = u64::MAX;

unsafe extern "C" fn is_over(limit: *mut c_void) -> bool {
    // SAFETY: the pointer is to `Compiled::limit`, which lives as long as the interpreter that calls this.
    let limit = unsafe { &*limit.cast::<Limit>() };
    let end = limit.end.load(Ordering::Relaxed);
    let over = end != NEVER && nanoseconds(Instant::now()) >= end;
    if over {
        limit.stopped.store(true, Ordering::Relaxed);
    }
    over
}

fn nanoseconds(time: Instant) -> u64 {
    u64::try_from(time.saturating_duration_since(*START).as_nanos()).unwrap_or(NEVER - 1)
}

/// A tensor buffer of LiteRT's over memory that somebody else holds.
struct Buffer(&'static Library, *mut ffi::TensorBuffer);

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `create_tensor_buffer`, destroyed once; no run uses it any more.
        unsafe { (self.0.api.destroy_tensor_buffer)(self.1) };
    }
}

impl Compiled {
    /// Compiles `model` for `threads` threads.
    ///
    /// # Safety
    /// `model` must be live, and outlive the result.
    pub(super) unsafe fn new(
        library: &'static Library,
        model: *mut ffi::Model,
        threads: usize,
        runners: usize,
    ) -> Result<Compiled> {
        let api = &library.api;
        let options = Options::new(library, threads)?;
        let _mapped = MappedWeights::begin();
        let mut handle = std::ptr::null_mut();
        // SAFETY: environment, model and options are live; the result is written to a place of our own.
        let status =
            unsafe { (api.create_compiled_model)(library.environment, model, options.raw, &raw mut handle) };
        checked(status, "compile the model")?;
        let limit = Box::new(Limit { end: AtomicU64::new(NEVER), stopped: AtomicBool::new(false) });
        let data = std::ptr::from_ref(&*limit).cast_mut().cast();
        let compiled = Compiled {
            library,
            handle,
            limit,
            prepared: vec![Prepared::default(); runners],
            strings: Vec::new(),
        };
        // SAFETY: the interpreter is live, and so is what the function reads as long as it is.
        checked(unsafe { (api.set_cancellation)(handle, data, is_over) }, "set a time limit")?;
        Ok(compiled)
    }

    /// Prepares runner `number`, which is `runner`, for inputs of `shapes`.
    fn prepare(&mut self, number: usize, runner: &Runner, shapes: &[Shape]) -> Result<()> {
        if self.prepared[number].inputs.as_deref() == Some(shapes) {
            return Ok(());
        }
        // The first time, LiteRT packs the weights.
        let _mapped = self.prepared[number].good.is_none().then(MappedWeights::begin);
        let known = self.prepared[number].inputs.take().unwrap_or_default();
        for (index, shape) in shapes.iter().enumerate() {
            // LiteRT has no function that makes an input a scalar; those of the file are.
            if known.get(index) != Some(shape) && !shape.is_empty() {
                self.resize(runner.index, index, shape)?;
            }
        }
        let outputs = self.outputs(runner, true).map_err(|why| {
            let named = runner.inputs.iter().zip(shapes);
            let named: Vec<_> = named.map(|(io, shape)| format!("{:?} {shape:?}", io.alias)).collect();
            let message =
                format!("The model cannot be run on these shapes: {}: {}", named.join(", "), why.message);
            Error::invalid(message)
        })?;
        let inputs = Some(shapes.to_vec());
        self.prepared[number] = Prepared { good: inputs.clone(), inputs, outputs };
        Ok(())
    }

    /// Returns whether it can be used again after a run of `runner` that failed with `why`: it compares with a new one
    /// if the fault was the request's, and it is prepared for the last good shapes again.
    pub(super) fn recovers(&mut self, number: usize, runner: &Runner, why: Kind) -> bool {
        if !matches!(why, Kind::InvalidArgument | Kind::DeadlineExceeded | Kind::ResourceExhausted) {
            return false;
        }
        let smallest = |io: &Io| io.shape.iter().map(|dim| (*dim).max(1)).collect();
        let good = self.prepared[number].good.clone();
        let good = good.unwrap_or_else(|| runner.inputs.iter().map(smallest).collect());
        self.prepare(number, runner, &good).is_ok()
    }

    fn resize(&mut self, signature: usize, input: usize, shape: &Shape) -> Result<()> {
        let dims: Vec<c_int> = shape.iter().map(|dim| c_int::try_from(*dim).unwrap_or(c_int::MAX)).collect();
        // SAFETY: the interpreter is live; the dimensions are read during the call.
        let status = unsafe {
            (self.library.api.resize_input)(self.handle, signature, input, dims.as_ptr(), dims.len())
        };
        self.checked(status, "resize an input")
    }

    /// Returns the shapes of the outputs; `prepare`: after preparing all operators for the inputs' shapes.
    fn outputs(&mut self, runner: &Runner, prepare: bool) -> Result<Vec<Shape>> {
        let none = Layout { rank: 0, dimensions: [0; MOST_DIMENSIONS], strides: [0; MOST_DIMENSIONS] };
        let mut layouts = vec![none; runner.outputs.len()];
        // SAFETY: the interpreter is live, and there is room for as many layouts as are asked for.
        let status = unsafe {
            (self.library.api.output_layouts)(
                self.handle,
                runner.index,
                layouts.len(),
                layouts.as_mut_ptr(),
                prepare,
            )
        };
        self.checked(status, "prepare")?;
        let shape = |layout: &Layout| -> Shape {
            let rank = ((layout.rank & 0x7f) as usize).min(MOST_DIMENSIONS);
            layout.dimensions[..rank].iter().map(|dim| i64::from(*dim)).collect()
        };
        Ok(layouts.iter().map(shape).collect())
    }

    /// Runs `runner`, the one with `number`, on `inputs` in its order, and returns its outputs in its order.
    pub(super) fn run(
        &mut self,
        number: usize,
        runner: &Runner,
        inputs: &[&Tensor],
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>> {
        let shapes: Vec<Shape> = inputs.iter().map(|tensor| Shape::from_slice(tensor.shape())).collect();
        self.prepare(number, runner, &shapes)?;
        let fed = inputs.iter().map(|tensor| memory(tensor)).collect::<Result<Vec<_>>>()?;
        let mut feeds = Vec::with_capacity(fed.len());
        for (memory, (tensor, io)) in fed.iter().zip(inputs.iter().zip(&runner.inputs)) {
            feeds.push(self.buffer(io, tensor.shape(), memory.pointer(), memory.len())?);
        }
        let mut room = self.room(number, runner)?;
        let mut fetches = self.fetches(number, runner, &mut room)?;
        let ran = self.invoke(runner, &feeds, &fetches, deadline);
        if runner.may_repeat && self.has_grown(number, runner, &ran)? {
            room = self.room(number, runner)?;
            fetches = self.fetches(number, runner, &mut room)?;
            self.invoke(runner, &feeds, &fetches, deadline)?;
        } else {
            ran?;
        }
        if room.iter().any(Room::is_untouched) {
            // An output that has no fixed shape any more has no fixed place either. LiteRT sees that when it begins.
            self.rehearsed(runner, &feeds, &fetches)?;
        }
        drop((feeds, fetches));
        self.answer(runner, inputs, room)
    }

    /// Checks, without computing anything, whether runs on `inputs` could begin: LiteRT cannot return outputs whose
    /// shapes depend on values.
    pub(super) fn rehearse(&mut self, number: usize, runner: &Runner, inputs: &[&Tensor]) -> Result<()> {
        match self.run(number, runner, inputs, Some(*START)) {
            Err(why) if why.kind != Kind::DeadlineExceeded => Err(why),
            _ => Ok(()),
        }
    }

    /// Returns whether a run failed only for want of room: few operators (tables) state the shape of their output when
    /// they run. Then that is known from now on.
    fn has_grown(&mut self, number: usize, runner: &Runner, ran: &Result<()>) -> Result<bool> {
        if !ran.as_ref().is_err_and(|why| why.message.contains(IS_TOO_SMALL)) {
            return Ok(false);
        }
        let outputs = self.outputs(runner, false)?;
        let has_grown = self.prepared[number].outputs != outputs;
        self.prepared[number].outputs = outputs;
        Ok(has_grown)
    }

    fn rehearsed(&mut self, runner: &Runner, feeds: &[Buffer], fetches: &[Fetch]) -> Result<()> {
        match self.invoke(runner, feeds, fetches, Some(*START)) {
            Err(why) if why.kind != Kind::DeadlineExceeded => Err(why),
            _ => Ok(()),
        }
    }

    /// Runs `runner` on these buffers.
    fn invoke(
        &mut self,
        runner: &Runner,
        feeds: &[Buffer],
        fetches: &[Fetch],
        deadline: Option<Instant>,
    ) -> Result<()> {
        let mut inputs: Few<_> = feeds.iter().map(|buffer| buffer.1).collect();
        let mut outputs: Few<_> = SmallVec::new();
        for fetch in fetches {
            outputs.push(match fetch {
                Fetch::Own(buffer) => buffer.1,
                Fetch::Input(index) => inputs[*index],
                Fetch::Earlier(index) => outputs[*index],
            });
        }
        self.limit.end.store(deadline.map_or(NEVER, nanoseconds), Ordering::Relaxed);
        self.limit.stopped.store(false, Ordering::Relaxed);
        let (handle, index) = (self.handle, runner.index);
        // SAFETY: the interpreter and all buffers are live, and `run` keeps their memory.
        let status = unsafe {
            (self.library.api.run)(
                handle,
                index,
                inputs.len(),
                inputs.as_mut_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            )
        };
        match self.checked(status, "run the model") {
            Err(_) if self.limit.stopped.load(Ordering::Relaxed) => Err(too_late()),
            Err(why) if why.message.contains(HAS_NO_PLACE) => Err(unknown_shape()),
            // Such as an index that is out of range.
            Err(why) if why.kind == Kind::Internal => Err(Error::new(Kind::InvalidArgument, why.message)),
            ran => ran,
        }
    }

    /// Makes room for the outputs of a run.
    fn room(&mut self, number: usize, runner: &Runner) -> Result<Vec<Room>> {
        let mut room = Vec::with_capacity(runner.outputs.len());
        for (io, shape) in runner.outputs.iter().zip(&self.prepared[number].outputs) {
            room.push(match (io.input, io.earlier) {
                _ if io.dtype == DType::String => {
                    Room::Strings(self.strings.pop().unwrap_or_else(|| vec![0; STRINGS + ALIGNMENT]))
                }
                (Some(input), _) => Room::Input(input),
                (None, Some(earlier)) => Room::Earlier(earlier),
                (None, None) => {
                    let bytes = element_count(shape).and_then(|count| count.checked_mul(io.dtype.size()));
                    let bytes = bytes.filter(|bytes| i32::try_from(*bytes).is_ok());
                    Room::Numbers(filled(bytes.ok_or_else(|| too_large(io, shape))?))
                }
            });
        }
        Ok(room)
    }

    /// Returns LiteRT's buffers for `room`.
    fn fetches(&self, number: usize, runner: &Runner, room: &mut [Room]) -> Result<Vec<Fetch>> {
        let ios = runner.outputs.iter().zip(&self.prepared[number].outputs);
        let fetch = |(room, (io, shape)): (&mut Room, (&Io, &Shape))| {
            let bytes: &mut [u8] = match room {
                Room::Input(index) => return Ok(Fetch::Input(*index)),
                Room::Earlier(index) => return Ok(Fetch::Earlier(*index)),
                Room::Numbers(values) => values,
                Room::Strings(bytes) => aligned(bytes),
            };
            self.buffer(io, shape, bytes.as_mut_ptr(), bytes.len()).map(Fetch::Own)
        };
        room.iter_mut().zip(ios).map(fetch).collect()
    }

    /// Returns the outputs that lie in `room` after a run.
    fn answer(&mut self, runner: &Runner, inputs: &[&Tensor], room: Vec<Room>) -> Result<Vec<Tensor>> {
        let shapes = self.outputs(runner, false)?;
        let mut answer: Vec<Tensor> = Vec::with_capacity(room.len());
        for (index, (room, shape)) in room.into_iter().zip(shapes).enumerate() {
            answer.push(match room {
                Room::Input(index) => inputs[index].clone(),
                Room::Earlier(index) => answer[index].clone(),
                Room::Numbers(mut values) => {
                    let dtype = runner.outputs[index].dtype;
                    // It may be smaller than LiteRT said, for the reason that it may be larger.
                    let bytes = element_count(&shape).and_then(|count| count.checked_mul(dtype.size()));
                    values.truncate(bytes.filter(|bytes| *bytes <= values.len()).ok_or_else(unknown_shape)?);
                    Tensor::from_values(dtype, shape, values)
                }
                Room::Strings(mut bytes) => {
                    let found = strings::decode(aligned(&mut bytes));
                    let found = found.filter(|found| element_count(&shape) == Some(found.len()));
                    let found = found.ok_or_else(unknown_shape)?;
                    if strings::size(&found) <= KEPT {
                        // What no run writes to is no tensor of strings.
                        aligned(&mut bytes)[..strings::HEAD].fill(0);
                        self.strings.push(bytes);
                    }
                    Tensor::strings(shape, found)
                }
            });
        }
        Ok(answer)
    }

    fn buffer(&self, io: &Io, shape: &[i64], memory: *mut u8, length: usize) -> Result<Buffer> {
        let mut dimensions = [0; MOST_DIMENSIONS];
        for (place, dim) in dimensions.iter_mut().zip(shape) {
            *place = i32::try_from(*dim).unwrap_or(i32::MAX);
        }
        let rank = u32::try_from(shape.len()).unwrap_or(0);
        let kind = TensorType {
            element: io.element,
            layout: Layout { rank, dimensions, strides: [0; MOST_DIMENSIONS] },
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the type is read during the call; the memory is the caller's, which keeps it until the run is over.
        let status = unsafe {
            (self.library.api.create_tensor_buffer)(
                &raw const kind,
                memory.cast(),
                length,
                None,
                &raw mut raw,
            )
        };
        self.checked(status, "use a tensor's memory")?;
        Ok(Buffer(self.library, raw))
    }

    /// Returns LiteRT's error if `status` is one, with its own texts.
    fn checked(&self, status: Status, what: &str) -> Result<()> {
        checked(status, what).map_err(|why| match self.messages() {
            texts if texts.is_empty() => why,
            texts => Error::new(why.kind, format!("{}: {texts}", why.message)),
        })
    }

    /// Takes the texts that LiteRT has reported since the last time.
    fn messages(&self) -> String {
        let mut text = std::ptr::null_mut();
        // SAFETY: the interpreter is live; the text is ours to free.
        let status = unsafe { (self.library.api.error_messages)(self.handle, &raw mut text) };
        if status != 0 || text.is_null() {
            return String::new();
        }
        // SAFETY: LiteRT returned a C string that it allocated with `malloc`.
        let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: as above; freed once.
        unsafe { libc::free(text.cast()) };
        // SAFETY: the interpreter is live.
        unsafe { (self.library.api.clear_errors)(self.handle) };
        owned.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: made by `create_compiled_model`, destroyed once; no run uses it.
        unsafe { (self.library.api.destroy_compiled_model)(self.handle) };
    }
}

/// The memory of a tensor that is fed.
enum Memory<'a> {
    /// The tensor's own.
    Own(&'a [u8]),
    /// A copy.
    Copy(Aligned<u8>, usize),
}

impl Memory<'_> {
    fn pointer(&self) -> *mut u8 {
        match self {
            Memory::Own(bytes) => bytes.as_ptr().cast_mut(),
            Memory::Copy(bytes, _) => bytes.as_ptr().cast_mut(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Memory::Own(bytes) => bytes.len(),
            Memory::Copy(_, length) => *length,
        }
    }
}

/// Returns the memory to feed `tensor` from: its own if it is aligned and what LiteRT's kernels may read behind it lies
/// in the same page.
fn memory(tensor: &Tensor) -> Result<Memory<'_>> {
    const PAGE: usize = 4096;
    if let Some(strings) = tensor.as_strings() {
        let too_long = || Error::invalid("The strings of an input are too long: LiteRT takes 2 GiB together");
        let encoded = strings::encode(strings, SPARE).ok_or_else(too_long)?;
        let length = encoded.len();
        return Ok(Memory::Copy(encoded, length));
    }
    let bytes = tensor.bytes();
    let end = bytes.as_ptr() as usize + bytes.len();
    if (bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) && (end - 1) / PAGE == (end - 1 + SPARE) / PAGE {
        return Ok(Memory::Own(bytes));
    }
    let mut copy: Aligned<u8> = Aligned::with_capacity(ALIGNMENT, bytes.len() + SPARE);
    append(&mut copy, bytes);
    copy.resize(bytes.len() + SPARE, 0);
    Ok(Memory::Copy(copy, bytes.len()))
}

/// Where an output of a run lies.
enum Room {
    /// It is an input.
    Input(usize),
    /// It is the same tensor as an output before.
    Earlier(usize),
    Numbers(Aligned<u8>),
    /// Zeroed by the system when it is touched; see [`aligned`].
    Strings(Vec<u8>),
}

impl Room {
    /// Returns whether nothing seems to have been written.
    fn is_untouched(&self) -> bool {
        match self {
            Room::Numbers(values) => !values.is_empty() && values.iter().all(|byte| *byte == FILLED),
            Room::Input(_) | Room::Earlier(_) | Room::Strings(_) => false,
        }
    }
}

/// LiteRT's buffer for an output. A tensor of numbers has one, even if it is several inputs or outputs; strings are
/// copied.
enum Fetch {
    Own(Buffer),
    Input(usize),
    Earlier(usize),
}

/// Returns the part of `bytes` that begins where LiteRT wants it to.
fn aligned(bytes: &mut [u8]) -> &mut [u8] {
    let skipped = bytes.as_ptr().align_offset(ALIGNMENT).min(bytes.len());
    &mut bytes[skipped..]
}

/// Returns memory for numbers, filled with [`FILLED`].
fn filled(length: usize) -> Aligned<u8> {
    let mut values: Aligned<u8> = Aligned::with_capacity(ALIGNMENT, length.max(ALIGNMENT));
    values.resize(length, FILLED);
    values
}

fn too_large(io: &Io, shape: &Shape) -> Error {
    let why = format!("Output {:?} would have shape {shape:?}, which is more than 2 GiB", io.name);
    Error::new(Kind::ResourceExhausted, why)
}

fn unknown_shape() -> Error {
    Error::new(
        Kind::Unimplemented,
        "The shape of an output depends on values, or is that of a variable: LiteRT cannot return such an output",
    )
}

/// Returns an error if `status` is one.
pub(super) fn checked(status: Status, what: &str) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    Err(Error::internal(format!("LiteRT could not {what} (status {status})")))
}

/// Options for compiling.
struct Options {
    library: &'static Library,
    raw: *mut ffi::Options,
}

impl Options {
    /// The processor alone, with `threads` threads, and errors kept for [`Compiled::messages`].
    fn new(library: &'static Library, threads: usize) -> Result<Options> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the result is written to a place of our own.
        checked(unsafe { (library.api.create_options)(&raw mut raw) }, "make options")?;
        let options = Options { library, raw };
        // SAFETY: the options are live.
        checked(unsafe { (library.api.set_accelerators)(raw, ffi::CPU) }, "set options")?;
        let threads = format!("num_threads = {threads}\n");
        // The delegate reads the first, the interpreter the second.
        options.add(c"xnnpack", &threads)?;
        options.add(c"cpu_delegate", &threads)?;
        options.add(c"runtime_options_string", "error_reporter_mode = 2\n")?;
        Ok(options)
    }

    fn add(&self, name: &CStr, text: &str) -> Result<()> {
        unsafe extern "C" fn free(text: *mut c_void) {
            // SAFETY: made by `CString::into_raw` below, freed once.
            drop(unsafe { CString::from_raw(text.cast()) });
        }
        let text = CString::new(text).map_err(|_| Error::internal("Options with a NUL"))?;
        let mut opaque = std::ptr::null_mut();
        // SAFETY: the name lives during the call, which copies it; the text is handed over with its destructor.
        let status = unsafe {
            (self.library.api.create_opaque_options)(
                name.as_ptr(),
                text.into_raw().cast(),
                free,
                &raw mut opaque,
            )
        };
        checked(status, "make options")?;
        // SAFETY: both are live; the options take the others over.
        checked(unsafe { (self.library.api.add_opaque_options)(self.raw, opaque) }, "set options")
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `create_options`, destroyed once.
        unsafe { (self.library.api.destroy_options)(self.raw) };
    }
}
