//! A line that is typed without being shown.

use crate::failure::Failure;

#[cfg(unix)]
pub(crate) use unix::hidden_line;

/// Asks for a line that is not shown. At the end of the input, the line is empty.
#[cfg(not(unix))]
pub(crate) async fn hidden_line(prompt: &str) -> Result<String, Failure> {
    rpassword::prompt_password(prompt).map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::because("the key cannot be read", error)
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::future::poll_fn;
    use std::io::{self, BufRead, BufReader, Write};
    use std::pin::pin;
    use std::task::{Context, Poll};

    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tokio::sync::oneshot;

    use super::unreadable;
    use crate::exit::Code;
    use crate::failure::Failure;

    /// Asks for a line that is not shown. At the end of the input, the line is empty.
    ///
    /// # Errors
    ///
    /// Returns an error with the code of a signal that ends the prompt, and if the terminal cannot be used.
    pub(crate) async fn hidden_line(prompt: &str) -> Result<String, Failure> {
        // Without handlers, a signal would end the program with a terminal that does not show what is typed.
        let mut signals = EndingSignals::new().map_err(|error| unreadable(&error))?;
        let answer = typed(prompt, &mut signals).await;
        // The handlers stay, so later signals end the program here.
        tokio::spawn(async move {
            let code = poll_fn(|context| signals.poll(context)).await;
            std::process::exit(code.into());
        });
        match answer.map_err(|error| unreadable(&error))? {
            Ok(line) => Ok(line),
            Err(code) => Err(Failure::with_code(code, "interrupted")),
        }
    }

    /// Returns the line, or the code of the signal that came before its end.
    async fn typed(prompt: &str, signals: &mut EndingSignals) -> io::Result<Result<String, Code>> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let mut hidden = HiddenTerminal::new(terminal)?;
        hidden.terminal.write_all(prompt.as_bytes())?;
        let mut line = pin!(read_line(hidden.terminal.try_clone()?));
        let answer = poll_fn(|context| match signals.poll(context) {
            Poll::Ready(code) => Poll::Ready(Ok(Err(code))),
            Poll::Pending => line.as_mut().poll(context).map_ok(Ok),
        });
        let answer = answer.await?;
        if !matches!(&answer, Ok(line) if line.ends_with('\n')) {
            hidden.terminal.write_all(b"\n")?;
        }
        Ok(answer)
    }

    /// Reads a line on a thread of its own, which ends with the program if a line does not come.
    async fn read_line(terminal: File) -> io::Result<String> {
        let (sender, line) = oneshot::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = BufReader::new(terminal).read_line(&mut text);
            // A signal may have ended the prompt.
            let _ = sender.send(read.map(|_length| text));
        });
        line.await.map_err(io::Error::other)?
    }

    /// A terminal that does not show what is typed, until this is dropped.
    struct HiddenTerminal {
        terminal: File,
        before: Termios,
    }

    impl HiddenTerminal {
        fn new(terminal: File) -> io::Result<Self> {
            let before = tcgetattr(&terminal)?;
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            hidden.local_modes.insert(LocalModes::ECHONL);
            // A stopped program could leave a shell without an echo.
            hidden.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(&terminal, OptionalActions::Now, &hidden)?;
            Ok(Self { terminal, before })
        }
    }

    impl Drop for HiddenTerminal {
        fn drop(&mut self) {
            // A terminal that went away has no echo to turn on.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }

    /// The signals that end a program, unless it has handlers.
    struct EndingSignals(Vec<(Code, Signal)>);

    impl EndingSignals {
        fn new() -> io::Result<Self> {
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::quit(),
                SignalKind::hangup(),
            ];
            let handled =
                |kind: SignalKind| Ok((Code::of_signal(kind.as_raw_value()), signal(kind)?));
            kinds
                .into_iter()
                .map(handled)
                .collect::<io::Result<_>>()
                .map(Self)
        }

        /// Returns the code of a signal that came.
        fn poll(&mut self, context: &mut Context<'_>) -> Poll<Code> {
            for (code, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*code);
                }
            }
            Poll::Pending
        }
    }
}
