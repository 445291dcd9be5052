"""The few requests to Kubernetes that start a run, as a pod makes them, with its own service account."""

import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray.errors import DropRayError

# Where Kubernetes puts them in a pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 30

Object = dict[str, Any]


class KubernetesError(DropRayError):
    """Kubernetes did not do what it was asked, or gave no answer."""


@dataclass(frozen=True)
class RayJobs:
    """The RayJobs of one namespace."""

    server: str
    """URL of the API server."""
    namespace: str
    """The namespace."""
    token: str
    """The service account's."""
    ssl_context: ssl.SSLContext | None
    """With the authority that signed the server's certificate; None for a server without TLS."""

    def get(self, name: str) -> Object | None:
        """The RayJob of that name; None if there is none."""
        return self._request("GET", name)

    def create(self, ray_job: Object) -> None:
        self._request("POST", "", ray_job)

    def delete(self, name: str) -> None:
        """It goes when its own objects have gone, which takes a while."""
        self._request("DELETE", name)

    def _request(self, method: str, name: str, body: Object | None = None) -> Object | None:
        """The answer; None if there is no such RayJob."""
        path = f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs" + (f"/{name}" if name else "")
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server}{path}", data, headers, method=method)
        # The API server is of the cluster: no proxy lies between.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.ssl_context)]
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as answer:
                found: Object = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404 and name:
                return None
            raise KubernetesError(f"{method} {path}: {error.code} {_reason(error)}") from error
        except OSError as error:
            raise KubernetesError(
                f"{self.server} gives no answer ({error}); does the network policy let pods reach the API server?"
            ) from error


def rayjobs_of_this_pod() -> RayJobs:
    """Of the namespace of the pod that this process is in."""
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        token, namespace = ((ACCOUNT / name).read_text().strip() for name in ("token", "namespace"))
        context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    except (KeyError, OSError) as error:
        raise KubernetesError(f"this is no pod with a token of its service account in {ACCOUNT}: {error}") from error
    # An IPv6 address stands in brackets.
    return RayJobs(f"https://{f'[{host}]' if ':' in host else host}:{port}", namespace, token, context)


def _reason(error: urllib.error.HTTPError) -> str:
    """Of the API's own message, if it gives one."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)
