"""One table for every error code that AWS answers, and one tree for what the callers of AWS can meet.

AwsError
+-- RefusedError            AWS understood and said no: sending it again gives the same answer
|   +-- ExpiredTokenError       the buyer's registration token is too old
|   +-- InvalidTokenError       the registration token is not one of AWS's
|   +-- RecordRefusedError      a record in the call is bad; the whole call was refused and nothing was metered
|   +-- InvalidParameterError   the request is malformed
+-- UnavailableError        nothing is known to be wrong with the request: try later
    +-- ThrottledError          refused before it was looked at
    +-- SystemicError           refused for the whole account or deployment: disabled, denied, expired credentials
    +-- NoAnswerError           AWS may or may not have acted: 5xx, timeout, lost connection
"""


class AwsError(Exception):
    """An AWS call that didn't succeed. `code` is AWS's error code, or the client's error class."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class RefusedError(AwsError): ...


class ExpiredTokenError(RefusedError): ...


class InvalidTokenError(RefusedError): ...


class RecordRefusedError(RefusedError): ...


class InvalidParameterError(RefusedError): ...


class UnavailableError(AwsError): ...


class ThrottledError(UnavailableError): ...


class SystemicError(UnavailableError): ...


class NoAnswerError(UnavailableError): ...
