"""Runs in the page's container: what a visit does there, with the page's own parts. Prints what came of it."""

import json
import sys
import time

from frontend_streamlit.clients import make_clients
from frontend_streamlit.clients.backend import JobRequest
from frontend_streamlit.clients.gallery import Picture
from frontend_streamlit.settings import Settings

OWNER, DEADLINE_S = "visitor", 500.0

clients = make_clients(Settings())
translation = clients.translator.translate("青い背景に赤いりんご")
request = JobRequest(
    prompt=translation.english,
    source_prompt=translation.source,
    translator=translation.translator,
    owner=OWNER,
    seed=7,
)
job = clients.backend.submit(request)
deadline = time.monotonic() + DEADLINE_S
while not job.has_ended and time.monotonic() < deadline:
    time.sleep(0.2)
    (job,) = clients.backend.list_jobs(OWNER, limit=1)
pictures: list[Picture] = []
while job.status == "succeeded" and not pictures and time.monotonic() < deadline:  # it goes to the gallery afterwards
    time.sleep(0.2)
    pictures = clients.gallery.pictures(OWNER, clients.gallery.names(OWNER))
served = [clients.backend.read_picture(image) for image in job.images]
for picture in pictures:
    clients.gallery.delete(OWNER, picture.name)
json.dump(
    {
        "status": job.status,
        "english": translation.english,
        "same_as_the_backend_tells": served == [picture.png for picture in pictures],
        "sources": [picture.source_prompt for picture in pictures],
        "left": clients.gallery.names(OWNER),
    },
    sys.stdout,
)
