//! C-ECHO (PS3.4 A): Verification SCP.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError};
use crate::dimse::CEchoRequest;

/// Answers one C-ECHO.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    context: u8,
    request: CEchoRequest,
) -> Result<(), AssociationError> {
    let _ = (association, context, request);
    todo!()
}
