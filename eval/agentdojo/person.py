"""The person who is asked: answers over the gateway's admin socket, as `bailiwick approvals` does."""

import json

import httpx2


class Person:
    """One who approves the user's own calls and refuses the attacker's (`oracle`), who approves everything (`all`), or nobody."""

    def __init__(self, kind: str, endorses: bool, socket: str):
        self.kind, self.endorses = kind, endorses
        self.admin = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket), base_url="http://admin", timeout=60)

    async def why(self, ask: int) -> str:
        """Why the call is asked about."""
        return (await self.admin.get(f"/api/v1/approvals/{ask}")).raise_for_status().json()["because"]

    async def answers(self, ask: int, by: str) -> bool:
        """Answers, by default with the values endorsed for the execution so that none is asked about twice; whether the call may be made."""
        if self.kind == "none":
            return False
        agrees = self.kind == "all" or by == "user"
        path = f"/api/v1/approvals/{ask}/{'approve' if agrees else 'refuse'}"
        body = json.dumps({"by": "the person", "endorse": self.endorses} if agrees else {"by": "the person"})
        (await self.admin.post(path, content=body)).raise_for_status()
        return agrees
