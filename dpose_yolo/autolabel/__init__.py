"""`dpose autolabel`: labels by the agreement of several models.

`votes` and `persons` hold the mathematics (arrays in, arrays out); `teachers` runs the models, `panel` joins the three;
`pictures`, `journal` and `target` read images, remember what is done, and write the data set; `review` shows it.
"""
