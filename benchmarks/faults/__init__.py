"""Every fault that a device, a room or an application can have, and what the session must say meanwhile.

Devices that play the demo recording on a virtual clock fail as their script says, behind the same supervision
as any live sensor; `play` runs a scenario, `truth` works out from the faults alone what must be true at each
moment, `check` holds every reading against it. ``make faults`` runs every fault alone and every two of them
on two modalities; ``make test`` runs every one alone and forty pairs.

"out" means that no reading may use the modality, from the time given until the fault has ended and, where
"filled anew" is said, its window has been filled by data captured afterwards. After that it must be used
again within the longest pause of the back-off, the fill, the hold and one hop.

| fault | audio | video | text |
|---|---|---|---|
| absent at start | no such device until the fault ends: out, filled anew | as audio | no words: out until the first ones |
| unplugged | an error, and no such device any more: out within 0.1 s, for good | as audio | the words that came count until they are too old (their time to live), then out |
| hangs | open and silent: out within 0.5 s (the deadline), filled anew | as audio | silence is normal: as unplugged, until new words come |
| repeats | the driver hands out the same quarter of a second over and over: out within 1.5 s (poor), filled anew | the same frame over and over: out within `video_frozen_s` and one picture (poor) | the same words again and again are no fault: people repeat themselves. Stays in |
| zeros | exact zeros: out within `quiet_after_s` and one block (quiet) | black frames: out with the next picture (poor) | empty lines hold no words: out when the last words are too old |
| noise burst | white noise 10 dB above the voice: out within 1.5 s (poor), filled anew | random pixels hold no face: out within `quiet_after_s` and one picture (quiet or poor) | junk words cannot be told from a language that the model does not know. Stays in |
| wrong rate | half the samples that the rate promises: out within 2.5 s (lost), filled anew | one picture a second instead of ten: out within 2.5 s (lost); with a slow application, which looks as seldom, in or out | ten lines at once: only the last words count. Stays in |
| comes back | unplugged, then plugged in again: out within 0.1 s, then filled anew | as audio | as unplugged, until new words come |
| flaps every 200 ms | gone for 200 ms, there for 200 ms, shorter than the hold: out all the time, filled anew | as audio | words that come through count until they are too old |
| slow consumer | the application takes 1.2 s for each reading and the queue is shorter than that: sound with holes, out | only the newest picture is kept: stays in | stays in |
| clock jump | time stamps run 3 s ahead, then fall back: in or out meanwhile, but never younger than it is; refused or stamped anew, and well again at once when the stamps are true | as audio | as audio |

With a slow consumer hops are left out, and counted; with every other fault there is one reading each hop.
"""  # noqa: E501 - a table has no line breaks
