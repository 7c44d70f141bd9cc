import sys; sys.path.insert(0,'./src2p')
import time,torch,sys,math
from random import Random
from demo.train import *
torch.set_num_threads(2); torch.manual_seed(1)
start,out,minutes,peak=sys.argv[1],sys.argv[2],float(sys.argv[3]),float(sys.argv[4])
c=Corpus(); tok=PreTrainedTokenizerFast.from_pretrained(start); m=LlamaForCausalLM.from_pretrained(start,dtype=torch.float32,attn_implementation="eager")
rows=Rows(c,tok,int(time.time())); rng=Random()
vocab=tok.get_vocab(); plain={i:vocab[t[1:]] for t,i in vocab.items() if t.startswith('Ġ') and t[1:] in vocab}
strip=torch.arange(2048)
for a,b in plain.items(): strip[a]=b
print(len(plain),'pairs',flush=True)
opt=torch.optim.AdamW(m.parameters(),lr=peak,betas=(0.9,0.95),weight_decay=0.02)
t0=time.time(); shown=0; step=0
PREV,IND=1,2
from demo import names
pool=torch.tensor([t for _ in range(12000) for t in tok.encode(' '+names.place(rng),add_special_tokens=False)])
low=torch.tensor([vocab.get(k.replace('Ġ',''),i) if False else i for k,i in vocab.items()])
QUOTE=tok.convert_tokens_to_ids('Ġ"')
stripl=strip.tolist()
def sources(row,tgt):
    # induction pairs (i -> j) of learned positions: the last earlier token equal to the next one after a token equal to this one
    r=[stripl[t] for t in row]; big={}; uni={}; ind=[]; first=[]
    for i in range(len(r)-1):
        big[(r[i-1],r[i])]=i; uni[r[i]]=i
        if tgt[i+1]!=IGNORED:
            j=big.get((r[i],r[i+1]))
            if j is not None and j<=i: ind.append((i,j))
            elif row[i]==QUOTE and r[i+1] in uni: first.append((i,uni[r[i+1]]))
    return ind,first

ema=5.0; acc=0.; fst=5.; iat=3.; ave=dict.fromkeys('BCD',1.5); said=(0,0,0,0); row=0.

last=time.time()
while (done:=(time.time()-t0)/60/minutes)<1:
    for g in opt.param_groups: g['lr']=peak*min(1,step/30+.05)*(0.03+0.97*0.5*(1+math.cos(math.pi*done)))
    kind=rng.choices('ABCD',(.22*(1-.6*done),.45,.13,.2))[0]
    if kind=='A':
        T,B=36,24
        ids=pool[torch.randint(0,len(pool)-T,(B,1))+torch.arange(T)].clone(); bi=[];qi=[];si=[]
        for r in range(B):
            n=rng.randint(3,17); st=rng.randint(0,T-2*n)
            y=ids[r,st:st+n].clone()
            k=rng.random()
            if k<.3: y[0]=strip[y[0]]
            elif k<.5: y=strip[y]
            ids[r,st+n:st+2*n]=y
            for q in range(st+n,st+2*n-1): bi.append(r);qi.append(q);si.append(q-n+1)
        bi,qi,si=map(torch.tensor,(bi,qi,si))
        o=m.model(ids,output_attentions=True)
        h=o.last_hidden_state
        w=ids[bi,qi+1]; lg=m.lm_head(h[bi,qi]); lm=torch.nn.functional.cross_entropy(lg,w)
        pos=torch.arange(1,T); prev=-(o.attentions[PREV][:,0,pos,pos-1]+1e-6).log().mean()
        ind=-(o.attentions[IND][bi,0,qi,si]+1e-6).log().mean()-(o.attentions[IND][bi,2,qi,si]+1e-6).log().mean()
        ema=0.9*ema+0.1*ind.item(); loss=None; said=(lm.item(),prev.item(),ind.item(),(lg.argmax(-1)==w).float().mean().item())
    else:
        L,b={'B':(320,3),'C':(640,1),'D':(96,9)}[kind]
        ids,tg=rows.batch(L,b)
        if kind=='D':
            h=m.model(ids).last_hidden_state[:,:-1]; extra=0
        else:
            o=m.model(ids,output_attentions=True); h=o.last_hidden_state[:,:-1]
            II=[];FF=[]
            for r in range(len(ids)):
                a_,f_=sources(ids[r].tolist(),tg[r].tolist())
                II+=[(r,i,j) for i,j in a_]; FF+=[(r,i,j) for i,j in f_]
            extra=0
            for P,(l_,hh) in ((II,(2,0)),(II,(2,2)),(FF,(3,0))):
                if P:
                    b_,i_,j_=map(torch.tensor,zip(*P)); at=-(o.attentions[l_][b_,hh,i_,j_]+1e-6).log().mean()
                    extra=extra+at*(1-.7*done)*.5
                    if P is FF: fst=.8*fst+.2*at.item()
                    else: iat=.8*iat+.2*at.item()
        w=tg[:,1:]; k=w!=-100
        if not k.any(): continue
        lmr=torch.nn.functional.cross_entropy(m.lm_head(h[k]),w[k]); loss=lmr+extra; row=lmr.item()
    if loss is None: loss=lm+prev*.5+ind*(1-.7*done)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(m.parameters(),1.0); opt.step(); opt.zero_grad(set_to_none=True); step+=1
    if kind!='A' : ave[kind]=.9*ave[kind]+.1*row
    else: acc=.8*acc+.2*said[3]
    if time.time()-last>200: last=time.time(); save(m,tok.backend_tokenizer,Path(out))
    if time.time()-shown>15 and step>8:
        shown=time.time(); print(f"{done:.2f} step {step} lm %.3f prev %.3f ind %.3f acc %.2f ema {ema:.2f} acc {acc:.3f} fst {fst:.2f} iat {iat:.2f} B {ave['B']:.3f} C {ave['C']:.3f} D {ave['D']:.3f}"%said,flush=True)
save(m,tok.backend_tokenizer,Path(out))
