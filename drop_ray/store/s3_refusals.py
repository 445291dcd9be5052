"""What S3 means when it refuses a request, and the remedy: credentials, clocks, buckets, full storage. Without network.

The codes are those of S3, MinIO and Ceph; an answer to HEAD has no body, and its status in place of a code.
"""

import socket
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from drop_ray.errors import StoreRefusedError
from drop_ray.store.s3fs_private import service_error
from drop_ray.text.units import human_duration

# The last is what S3 says of a token that is no longer one.
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "InvalidToken"}
UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "UnrecognizedClientException"}
FULL = {"InsufficientStorage", "QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "507"}
FULL |= {"XMinioAdminBucketQuotaExceeded", "InsufficientCapacity"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
    SSOError,
    LoginError,
)
# Of a HEAD whose credentials are refused: it may be because they have expired.
NO_REASON = {"400", "403"}


def refusal(error: BaseException, bucket: str, what: str) -> StoreRefusedError | None:
    """The error to raise in place of one that repeating the request cannot mend; None for all others.

    `what` is the request, for people.
    """
    if isinstance(error, NO_CREDENTIALS):
        return StoreRefusedError(
            f"{what}: no credentials ({error}); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "run with an instance role"
        )
    answer = service_error(error)
    if answer is None:
        return None
    code, status, headers = _parts(answer.response)
    meaning = _meaning(code, status, headers, bucket)
    if meaning is None:
        return None
    message = answer.response["Error"].get("Message", "")
    said = code if message in ("", code) else f"{code}: {message.rstrip('.')}"
    return StoreRefusedError(f"{what} was refused ({said}): {meaning}")


def may_have_expired(error: BaseException) -> bool:
    """Whether newer credentials could make the request succeed."""
    answer = service_error(error)
    return answer is not None and _parts(answer.response)[0] in EXPIRED | NO_REASON | {"InvalidAccessKeyId"}


def has_expired(error: BaseException) -> bool:
    """Whether the service says that the credentials were good once."""
    answer = service_error(error)
    return answer is not None and _parts(answer.response)[0] in EXPIRED


def is_full(error: BaseException) -> bool:
    """Whether the service has no room, which does not pass by itself."""
    answer = service_error(error)
    if answer is None:
        return False
    code, status, _ = _parts(answer.response)
    return code in FULL or status == 507


def _parts(response: Mapping[str, Any]) -> tuple[str, int, Mapping[str, str]]:
    """Code, status and headers of an answer."""
    metadata = response.get("ResponseMetadata", {})
    return response["Error"].get("Code", ""), metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})


def _meaning(code: str, status: int, headers: Mapping[str, str], bucket: str) -> str | None:
    if code in EXPIRED:
        return (
            "the credentials have expired; renew them (such as `aws sso login`) and run the same command again. A long "
            "run needs some that renew themselves: an instance role, AWS_WEB_IDENTITY_TOKEN_FILE, credential_process, "
            "or a profile's file that is kept fresh"
        )
    if code == "RequestTimeTooSkewed":
        return f"{_skew(headers)}; set it by NTP, and run the same command again"
    if code in UNKNOWN_KEY:
        return (
            "the service does not know these credentials; correct AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_ENDPOINT_URL if they are of another service"
        )
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket}, or no longer; create the bucket {bucket}, or correct its name"
    if code in FULL or status == 507:
        return "the storage is full; free some (`drop-ray gc` lists what nobody needs) and run the same command again"
    if code in ELSEWHERE:
        return (
            f"the bucket {bucket} is in another region; set AWS_DEFAULT_REGION, or client_kwargs: {{region_name: ...}}"
        )
    if status == 403 or code in ("AccessDenied", "403"):
        return f"grant s3:ListBucket on {bucket}, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
    return None


def _skew(headers: Mapping[str, str]) -> str:
    host = socket.gethostname()
    try:
        ahead = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return f"the clock of {host} differs from the service's"
    return f"the clock of {host} is {human_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the service's"
