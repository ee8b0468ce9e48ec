//! C-ECHO (PS3.4 A): Verification SCP.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError};
use crate::dimse::{CEchoRequest, CEchoResponse, Command, Response, Status};

/// Answers one C-ECHO.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    context: u8,
    request: CEchoRequest,
) -> Result<(), AssociationError> {
    let response = CEchoResponse {
        message_id: request.message_id,
        status: Status::Success,
    };
    association.send(context, &Command::Response(Response::Echo(response)), None).await
}
