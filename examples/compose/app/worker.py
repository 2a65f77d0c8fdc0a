"""The worker: squares the values of jobs that have no result yet."""

import time

import store

print("the worker is up")
while True:
    for job in store.ask(do="list"):
        if job["result"] is None:
            result = job["value"] ** 2
            store.ask(do="set", number=job["number"], result=result)
            print(f"job {job['number']}: {job['value']} squared is {result}")
    time.sleep(0.2)
